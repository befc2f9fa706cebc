"""Classifiers of scikit-learn on its handwritten digits, converted by skl2onnx: trees, linear models, a pipeline."""

import warnings

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import golden

SEED = 7
warnings.filterwarnings("ignore", category=ConvergenceWarning)


def export():
    pixels, labels = load_digits(return_X_y=True)
    pixels = pixels.astype(np.float32)
    seen, unseen = pixels[:1200], pixels[1200:]
    for name, classifier in classifiers().items():
        classifier.fit(seen, labels[:1200])
        options = {"zipmap": False}
        graph = to_onnx(classifier, seen[:1], options=options, target_opset=21)
        golden.path(name).write_bytes(graph.SerializeToString())
        cases = {"one": {"X": unseen[:1]}, "many": {"X": unseen[:256]}}
        golden.write(name, cases, lambda inputs: of(classifier, inputs["X"]))


def of(classifier, pixels):
    return [classifier.predict(pixels), classifier.predict_proba(pixels)]


def classifiers():
    return {
        "digits-forest": RandomForestClassifier(n_estimators=100, random_state=SEED),
        "digits-boosting": GradientBoostingClassifier(
            n_estimators=30, max_depth=3, subsample=0.5, max_features=8, random_state=SEED
        ),
        "digits-logistic": LogisticRegression(max_iter=200),
        "digits-pipeline": make_pipeline(
            StandardScaler(), MLPClassifier(hidden_layer_sizes=(64, 32), random_state=SEED)
        ),
    }
