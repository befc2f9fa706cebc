"""Classifiers of scikit-learn on its handwritten digits, converted by skl2onnx: trees, linear models, a pipeline."""

import warnings

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVR

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


    named()


def named():
    """Classes with names; a forest, a linear model of two classes, and a pipeline that fills gaps in a table first."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = pixels.astype(np.float32)
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    words, two = names[labels], np.where(labels < 5, "few", "many")
    forest = RandomForestClassifier(n_estimators=20, random_state=SEED)
    of_two = LogisticRegression(max_iter=200)
    gaps = make_pipeline(SimpleImputer(), Normalizer("l2"), LogisticRegression(max_iter=200))
    holes = np.where(np.random.default_rng(SEED).random(pixels.shape) < 0.1, np.nan, pixels)
    holes = holes.astype(np.float32)
    for name, classifier, given, classes in (
        ("digits-names", forest, pixels, words),
        ("digits-two", of_two, pixels, two),
        ("digits-gaps", gaps, holes, labels),
    ):
        classifier.fit(given[:1200], classes[:1200])
        options = {"zipmap": False}
        graph = to_onnx(classifier, given[:1], options=options, target_opset=21)
        golden.path(name).write_bytes(graph.SerializeToString())
        cases = {"one": {"X": given[1200:1201]}, "many": {"X": given[1200:1456]}}
        golden.write(name, cases, lambda inputs: of(classifier, inputs["X"]))
    regressor = SVR().fit(pixels[:400], labels[:400])
    graph = to_onnx(regressor, pixels[:1], target_opset=21)
    golden.path("digits-svr").write_bytes(graph.SerializeToString())
    cases = {"one": {"X": pixels[1200:1201]}, "many": {"X": pixels[1200:1456]}}
    golden.write("digits-svr", cases, lambda inputs: [regressor.predict(inputs["X"])[:, None]])


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
