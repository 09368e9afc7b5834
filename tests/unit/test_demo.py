"""The demonstration: its report, and that the failure of one architecture does not affect the others."""

import base64
import html
import io
import json
import re
import sys
import types

import pytest
from PIL import Image

import architectures
from architectures import Architecture
from demo import report as demo_report
from demo import run as demo_run
from demo.progress import Lines, Progress
from scenarios import Figure, Metric, Report, ScenarioError, ScenarioResult, Story, keep
from scenarios.drawing import FIRST, picture

ERROR = Metric("error", "how <wrong> it is", "$", "lower", 0.5)


class Cloud:
    """A replacement of the cloud that records its calls."""

    endpoint_url = "http://127.0.0.1:1"

    def __init__(self, start=lambda: None):
        self.asked, self._start = [], start

    def start(self):
        self.asked.append("start")
        self._start()

    def stop(self):
        self.asked.append("stop")

    def env(self):
        return {}

    def deploy(self, *stacks, context, progress):
        self.asked.append(("deploy", *stacks, context))

    def enforce_iam(self, on):
        self.asked.append(("iam", on))


@pytest.fixture
def architecture(monkeypatch):
    """Return a function that creates an architecture whose scenario is the function `run`."""
    monkeypatch.setattr(demo_run, "deployed", lambda stack: {"AWS::S3::Bucket": 2})

    def make(name, run, **more):
        module = types.ModuleType(f"scenario_of_{name}")
        vars(module).update(METRICS=(ERROR,), run=run, **more)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return Architecture(name, name.title(), "It does a thing.", "", "", module.__name__)

    return make


@pytest.fixture
def demonstrate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*architectures, cloud=None, keep=False):
        cloud, stream = cloud or Cloud(), io.StringIO()
        code = demo_run.demonstrate(
            list(architectures), tmp_path / "out", keep, Progress(stream), lambda: cloud
        )
        results = json.loads((tmp_path / "out/results.json").read_text())
        page = (tmp_path / "out/report/index.html").read_text()
        return types.SimpleNamespace(
            code=code, results=results, page=page, told=stream.getvalue(), cloud=cloud
        )

    return call


def good(stack, out, progress):
    progress("working")
    path = out / "line.svg"
    with picture(path) as axes:
        axes.plot([1, 2], [1, 2], color=FIRST)
    figure = Figure("A line", path, "A line that rises & rises.", "It rises.")
    report = Report({"Licence": "MIT"}, ["Train"], [figure], [Story("A story", "tried", "came of it")])
    return ScenarioResult({"error": 0.25}, (ERROR,), [path], report)


def bad(stack, out, progress):
    (out / "half.txt").write_text("so far")
    raise ScenarioError("the endpoint did not answer")


def missed(stack, out, progress):
    return ScenarioResult({"error": 0.75}, (ERROR,), [], Report())


def test_requirements_of_a_stack_are_made_before_its_deployment(architecture, demonstrate):
    cloud = Cloud()

    def prepare(progress):
        cloud.asked.append("prepare")
        return {"good.base": "s3://bases/one/"}

    done = demonstrate(architecture("good", good, prepare=prepare), cloud=cloud)

    assert done.code == 0
    deployed = (
        "deploy",
        "groundplan-dev-good",
        {"env": "dev", "only": "good", "good.base": "s3://bases/one/"},
    )
    assert cloud.asked == ["start", ("iam", False), "prepare", deployed, ("iam", True), "stop"]


def test_failed_preparation_is_the_reason_in_the_report(architecture, demonstrate):
    def prepare(progress):
        raise ScenarioError("there is no base")

    done = demonstrate(architecture("good", good, prepare=prepare))

    assert done.code == 1
    assert done.results["good"]["status"] == "failed"
    assert "there is no base" in done.page


def test_failed_scenario_reports_the_metrics_measured_before(architecture, demonstrate):
    # given a scenario that stores a metric and then fails
    def run(stack, out, progress):
        keep(out, {"error": 0.25})
        raise ScenarioError("the endpoint did not answer")

    # when it is demonstrated
    done = demonstrate(architecture("bad", run))

    # then the metric is in the results and in the table
    assert (done.code, done.results["bad"]["status"]) == (1, "failed")
    assert done.results["bad"]["metrics"]["error"] == 0.25
    assert "the endpoint did not answer" in done.told
    assert re.search(r"error +0\.25 \$", done.told)


def test_embedded_svg_keeps_its_colours_and_gets_unique_ids(tmp_path):
    # given an SVG with a colour that looks like a reference to an id
    path = tmp_path / "chart.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><clipPath id="inside"/><g id="unused"/>'
        '<rect fill="#ffffff" clip-path="url(#inside)"/></svg>'
    )

    shown = str(demo_report.picture(Figure("A chart", path, "A chart.", "")))

    assert 'fill="#ffffff"' in shown
    assert not re.search(r'"inside"|#inside|unused', shown)
    (name,) = re.findall(r'id="(\w+-inside)"', shown)
    assert f"url(#{name})" in shown


def bitmap(path, colour):
    Image.new("RGB", (4, 3), colour).save(path)
    return path


@pytest.mark.parametrize(("suffix", "media"), [("png", "image/png"), ("webp", "image/webp")])
def test_bitmap_is_embedded_in_the_report(architecture, demonstrate, suffix, media):
    # given
    def run(stack, out, progress):
        path = bitmap(out / f"page.{suffix}", "white")
        figure = Figure("A page", path, 'A page with a "button" & a field.', "It is there.")
        return ScenarioResult({"error": 0.25}, (ERROR,), [path], Report(figures=[figure]))

    # when
    page = demonstrate(architecture("good", run)).page

    # then
    (found,) = re.findall(rf'<picture><img src="data:{media};base64,([^"]+)" alt="([^"]+)"></picture>', page)
    assert Image.open(io.BytesIO(base64.b64decode(found[0]))).size == (4, 3)
    assert html.unescape(found[1]) == 'A page with a "button" & a field.'
    assert not re.search(r'(src|srcset|href)="(?!#|data:)', page)


def test_bitmap_has_its_own_file_for_dark(tmp_path):
    # given
    light, dark = (bitmap(tmp_path / f"{colour}.webp", colour) for colour in ("white", "black"))

    # when
    shown = str(demo_report.picture(Figure("A page", light, "A page.", "", dark)))

    # then
    source, image = re.findall(r'(?:src|srcset)="data:image/webp;base64,([^"]+)"', shown)
    assert base64.b64decode(source) == dark.read_bytes()
    assert base64.b64decode(image) == light.read_bytes()
    assert '<source media="(prefers-color-scheme: dark)" srcset=' in shown


def test_note_says_which_figure_is_missing(architecture, demonstrate):
    # given
    def run(stack, out, progress):
        return ScenarioResult({"error": 0.25}, (ERROR,), [], Report(notes=["There is no <browser>."]))

    # when
    done = demonstrate(architecture("good", run))

    # then
    assert done.code == 0
    assert "<p>There is no &lt;browser&gt;.</p>" in done.page


def test_results_have_the_promised_shape(architecture, demonstrate):
    done = demonstrate(architecture("good", good))

    assert done.code == 0
    assert set(done.results) == {"good"}
    found = done.results["good"]
    assert set(found) == {"status", "seconds", "metrics", "artifacts"}
    assert found["status"] == "ok"
    assert found["metrics"]["error"] == 0.25
    assert found["metrics"]["seconds_deploy"] >= 0
    assert found["artifacts"] == ["out/good/line.svg"]


def test_iam_is_enforced_after_the_deployment(architecture, demonstrate):
    done = demonstrate(architecture("good", good))
    assert done.cloud.asked == [
        "start",
        ("iam", False),
        ("deploy", "groundplan-dev-good", {"env": "dev", "only": "good"}),
        ("iam", True),
        "stop",
    ]


def test_failure_of_one_architecture_is_reported_and_others_continue(architecture, demonstrate):
    done = demonstrate(architecture("bad", bad), architecture("good", good))

    assert done.code == 1
    assert [found["status"] for found in done.results.values()] == ["failed", "ok"]
    assert "the endpoint did not answer" in done.told
    assert "the endpoint did not answer" in done.page
    assert done.results["bad"]["artifacts"] == ["out/bad/error.txt", "out/bad/half.txt"]
    assert done.cloud.asked[-1] == "stop"


def test_figure_that_misses_its_bound_fails_its_architecture(architecture, demonstrate):
    done = demonstrate(architecture("missed", missed))
    assert done.code == 1
    assert done.results["missed"]["status"] == "failed"
    assert done.results["missed"]["metrics"]["error"] == 0.75
    assert "error must be at most 0.5, got 0.75" in done.told


def test_cloud_that_cannot_start_fails_every_architecture(architecture, demonstrate):
    def refuse():
        raise RuntimeError("the port is taken")

    done = demonstrate(architecture("a", good), architecture("b", good), cloud=Cloud(refuse))

    assert done.code == 1
    assert [found["status"] for found in done.results.values()] == ["failed", "failed"]
    assert done.told.count("the port is taken") == 2
    assert done.cloud.asked == ["start", "stop"]


def test_interrupt_stops_the_cloud_and_writes_the_report(architecture, demonstrate):
    def interrupted(stack, out, progress):
        raise KeyboardInterrupt

    done = demonstrate(architecture("a", good), architecture("b", interrupted), architecture("c", good))

    assert done.code == 1
    assert [found["status"] for found in done.results.values()] == ["ok", "failed", "failed"]
    assert done.cloud.asked[-1] == "stop"


def test_second_demonstration_is_refused_while_one_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDPLAN_HOME", str(tmp_path))
    # when a demonstration starts while another one runs, then it exits with a reason
    refused = pytest.raises(SystemExit, match="Another demonstration uses")
    with demo_run.alone(), refused, demo_run.alone():
        pass
    # when it starts after the other one has ended, then it runs
    with demo_run.alone():
        pass


def test_keep_leaves_the_cloud_running_and_prints_its_address(architecture, demonstrate):
    done = demonstrate(architecture("good", good), keep=True)
    assert "stop" not in done.cloud.asked
    assert "http://127.0.0.1:1" in done.told


def test_report_is_self_contained_and_accessible(architecture, demonstrate):
    page = demonstrate(architecture("good", good)).page

    assert not re.search(r'(src|href)="(?!#)', page)
    assert "<script" not in page
    assert "@import" not in page
    assert 'role="img" aria-label="A line that rises &amp; rises."' in page
    assert "how &lt;wrong&gt; it is" in page
    assert "var(--figure-first)" in page
    assert "prefers-color-scheme: dark" in page


def test_ids_in_the_report_are_unique_and_references_resolve(architecture, demonstrate):
    page = demonstrate(architecture("a", good), architecture("b", good)).page
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_progress_without_a_terminal_is_plain_lines():
    stream = io.StringIO()
    progress = Progress(stream)

    with progress.step("deploy"):
        print("installing\nhalf a", end="", file=Lines(progress))

    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["deploy ...", "    installing"]
    assert re.fullmatch(r"  ✓ deploy  \d+ s", lines[2])
    assert "\x1b" not in stream.getvalue()


def test_progress_without_a_terminal_writes_each_repeated_subject_once():
    stream = io.StringIO()
    progress = Progress(stream)
    for line in ("job · round 1", "job · round 2", "job · round 3", "asking", "job · round 4"):
        progress.tell(line)
    assert stream.getvalue().split("\n") == ["    job · round 1", "    asking", "    job · round 4", ""]


def test_failed_step_is_marked():
    stream = io.StringIO()
    with pytest.raises(ValueError, match="no"), Progress(stream).step("deploy"):
        raise ValueError("no")
    assert "✗ deploy" in stream.getvalue()


def test_architecture_is_named_alike_in_every_room():
    for name, architecture in architectures.BY_NAME.items():
        assert architecture.name == name
        assert architecture.scenario.removesuffix(".steps") == f"scenarios.{name}"
        assert architecture.stack_name("dev") == f"groundplan-dev-{name.replace('_', '-')}"
        assert architecture.sentence.endswith(".")
