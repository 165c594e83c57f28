"""Training of the embedded models: `python -m surd.pipeline.demo.train MODEL`, see --help."""

import argparse
import importlib
import logging
from pathlib import Path

import torch

#: Role -> (module, default steps, default minutes)
TRAININGS = {
    "eye": ("train_eye", 6000, 60),
    "clip": ("train_clip", 6000, 120),
    "vae": ("train_vae", 6000, 60),
    "text": ("train_text", 1500, 20),
    "captioner": ("train_captioner", 5000, 90),
    "diffusion": ("train_diffusion", 60000, 720),
    "captioner-realistic": ("train_realistic", 4000, 30),
    "vqa": ("train_vqa", 6000, 60),
    "judge": ("train_judge", 6000, 40),
}
FURTHER = ("diffusion", "judge")


def main() -> None:
    """Read the command line and run one training to its step or time budget; run it again to continue."""
    parser = argparse.ArgumentParser(prog="python -m surd.pipeline.demo.train", description=__doc__)
    parser.add_argument("model", choices=TRAININGS)
    parser.add_argument("--work", type=Path, default=Path("data/demo-train"), help="folder of pictures and checkpoints")
    parser.add_argument("--steps", type=int, help="stop after this many steps")
    parser.add_argument("--minutes", type=float, help="stop after this many minutes")
    parser.add_argument(
        "--further", action="store_true", help="start from the embedded model's weights (diffusion and judge)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    args = parser.parse_args()
    if args.further and args.model not in FURTHER:
        parser.error(f"--further is set: {args.model} is always trained anew; use it with {' or '.join(FURTHER)} only")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    module, steps, minutes = TRAININGS[args.model]
    training = importlib.import_module(f"{__package__}.training.{module}")
    further = {"further": True} if args.further else {}
    training.train(args.work, args.steps or steps, 60 * (args.minutes or minutes), **further)


if __name__ == "__main__":
    main()
