"""Makes tiny.onnx and unknown.onnx, and prints what ONNX Runtime answers to the input of tests/it/networks.rs."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper as h, numpy_helper as nh, TensorProto as T
rng=np.random.default_rng(7)
w1=rng.standard_normal((3,4)).astype(np.float32).round(2); b1=rng.standard_normal(4).astype(np.float32).round(2)
w2=rng.standard_normal((4,2)).astype(np.float32).round(2); b2=rng.standard_normal(2).astype(np.float32).round(2)
nodes=[h.make_node("Gemm",["X","w1","b1"],["h"],name="first"),h.make_node("Relu",["h"],["r"],name="relu"),h.make_node("Gemm",["r","w2","b2"],["Y"],name="second")]
def model(nodes,inits,opset=[("",17)]):
    g=h.make_graph(nodes,"tiny",[h.make_tensor_value_info("X",T.FLOAT,["rows",3])],[h.make_tensor_value_info("Y",T.FLOAT,["rows",2])],inits)
    m=h.make_model(g,opset_imports=[h.make_opsetid(d,v) for d,v in opset],producer_name="tiny.py",ir_version=8)
    return m
inits=[nh.from_array(w1,"w1"),nh.from_array(b1,"b1"),nh.from_array(w2,"w2"),nh.from_array(b2,"b2")]
m=model(nodes,inits); onnx.checker.check_model(m)
onnx.save(m,"tiny.onnx")
x=np.array([[1,2,3],[-1,0.5,0.25]],np.float32)
print(ort.InferenceSession("tiny.onnx").run(None,{"X":x})[0].tolist())
onnx.save(model([h.make_node("Enlarge",["X"],["Y"],name="magnify",domain="com.example")],[],[("",17),("com.example",3)]),"unknown.onnx")
