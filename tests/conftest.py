"""Every test process is set up as a process that runs stages is, before its first test multiplies two matrices."""

from surd.pipeline.runner.process_setup import set_up_process

set_up_process()
