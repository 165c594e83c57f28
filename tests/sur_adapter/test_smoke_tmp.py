import time
from sur_adapter.trainer import train
from sur_adapter.base_model import load_base, encode_text
def test_x(config, base):
    p=load_base(str(base))
    s,m=encode_text(p,["red cat",""])
    print(s.shape,m, p.tokenizer("red cat").input_ids)
    t=time.time(); r=train(config(steps=20, lr=1e-3, checkpoint_every=5)); print(r, time.time()-t)
    assert 0
