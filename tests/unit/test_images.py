"""Building images from Dockerfiles without Docker: supported instructions, results, and running them."""

import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.images import bases, build, store
from local.images.context import BuildContext
from local.images.dockerfile import BuildError
from tooling import envs

FROM = "FROM public.ecr.aws/docker/library/python:3.11-slim\n"
ROOT = envs.ROOT


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A separate image store for this module, with the project's installation of uv."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "envs").mkdir()
    (folder / "images").mkdir()
    (folder / "envs" / "uv").symlink_to(envs.uv().parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROUNDPLAN_HOME", str(folder))
        yield folder


@pytest.fixture
def context(tmp_path):
    """A build context with a program, a requirements file and a folder of data."""
    (tmp_path / "requirements.txt").write_text("six==1.17.0\n")
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__init__.py").touch()
    (tmp_path / "program" / "__main__.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps({'args': sys.argv[1:], 'env': dict(os.environ), 'cwd': os.getcwd(),"
        " 'path': sys.path, 'executable': sys.executable}))\n"
    )
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.csv").write_text("a")
    (tmp_path / "data" / "b.csv").write_text("b")
    (tmp_path / "data" / "deep" / "c.json").write_text("c")
    return tmp_path


def built(context, text, **options):
    (context / "Dockerfile").write_text(text)
    return build.build(context, say=lambda line: None, **options)


def run(image, *args, entrypoint=None, **environment):
    """Run the image's example program; return the arguments, environment and paths that it reports."""
    command, own, folder = image.launch(list(args), entrypoint)
    done = subprocess.run(command, env=own | environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def files(image):
    root = image.folder / "root"
    return sorted(f"/{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir())


PROGRAM = (
    FROM
    + """ENV PYTHONPATH=/opt/program DATA=/opt/data:/var/nowhere ADDRESS=http://host:80//opt/data
COPY requirements.txt /opt/requirements.txt
RUN pip install --no-cache-dir -r /opt/requirements.txt
COPY program /opt/program/program
COPY data /opt/data
WORKDIR /opt/work
ENTRYPOINT ["python", "-m", "program"]
"""
)


# How an image runs


def test_image_runs_by_its_dockerfile(context):
    # Given an image with code and data at paths inside the image
    image = built(context, PROGRAM)
    root = image.folder / "root"

    # When the image is started with an argument
    said = run(image, "train", "--data=/opt/data/a.csv")

    # Then paths of the image are mapped to folders of this machine, and other paths are not
    assert said["args"] == ["train", f"--data={root}/opt/data/a.csv"]
    assert said["cwd"] == str(root / "opt" / "work")
    assert str(root / "opt" / "program") in said["path"]
    assert said["env"]["DATA"] == f"{root}/opt/data:/var/nowhere"
    assert said["env"]["ADDRESS"] == "http://host:80//opt/data"
    # And the program runs with the image's Python and packages
    assert said["executable"] == str(image.folder / "env" / "bin" / "python")
    command, environment, _ = image.launch([], ["python", "-c", "import six; print(six.__version__)"])
    assert subprocess.check_output(command, env=environment, text=True) == "1.17.0\n"


def test_container_inherits_nothing_from_the_server(context, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the server")
    monkeypatch.setenv("PYTHONSTARTUP", "/server")
    monkeypatch.setenv("SSL_CERT_FILE", "/certificates.pem")

    said = run(built(context, PROGRAM))["env"]

    named_by_the_image = {"PATH", "LANG", "PYTHONPATH", "DATA", "ADDRESS"}
    assert set(said) - named_by_the_image - {"LC_CTYPE"} <= {"TZ", *store.PASSED_ON}
    assert said["SSL_CERT_FILE"] == "/certificates.pem"
    assert said["PATH"].split(":")[0].endswith("/env/bin")


@pytest.mark.parametrize(
    ("lines", "args", "entrypoint", "expected"),
    [
        ('ENTRYPOINT ["python", "-m", "program"]\nCMD ["serve"]', [], None, ["serve"]),
        ('ENTRYPOINT ["python", "-m", "program"]\nCMD ["serve"]', ["train"], None, ["train"]),
        ('CMD ["serve"]\nENTRYPOINT ["python", "-m", "program"]', [], None, ["serve"]),
        # an entry point clears the command that the base image sets
        ('ENTRYPOINT ["python", "-m", "program"]', [], None, []),
        ('CMD ["python", "-m", "program", "serve"]', [], None, ["serve"]),
        ('CMD ["python", "-m", "program", "serve"]', ["python", "-m", "program", "x"], None, ["x"]),
        ('ENTRYPOINT ["x"]\nENTRYPOINT ["/usr/local/bin/python3", "-m", "program"]', ["y"], None, ["y"]),
        (
            'ENTRYPOINT ["python", "no"]\nCMD ["serve"]',
            [],
            ["python", "-m", "program", "other"],
            ["other"],
        ),
    ],
)
def test_entry_point_and_command_combine_as_in_docker(context, lines, args, entrypoint, expected):
    image = built(context, FROM + "COPY program /code/program\nENV PYTHONPATH=/code\n" + lines + "\n")
    assert run(image, *args, entrypoint=entrypoint)["args"] == expected


def test_programs_of_packages_and_of_the_image_are_found(context):
    # Given a package with a program, and a script that the image puts on the path
    (context / "serve").write_text(
        "#!/usr/bin/env python\nimport six, sys\nprint(sys.argv[1], six.__name__)\n"
    )
    image = built(
        context,
        FROM + "RUN pip install tabulate==0.9.0 six\n"
        'ENV PATH="/opt/bin:$PATH"\nCOPY --chmod=755 serve /opt/bin/\nENTRYPOINT ["serve"]\n',
    )

    command, environment, _ = image.launch(["now"])
    assert subprocess.check_output(command, env=environment, text=True) == "now six\n"
    command, environment, _ = image.launch(["--help"], ["tabulate"])
    assert "tabular data" in subprocess.check_output(command, env=environment, text=True)


def test_program_of_this_machine_is_not_found_in_an_image(context):
    image = built(context, PROGRAM)
    with pytest.raises(FileNotFoundError, match="has no program git"):
        image.launch([], ["git"])


def test_no_container_can_change_the_files_of_the_next(context):
    image = built(context, PROGRAM)
    modes = {path.stat().st_mode & 0o222 for path in (image.folder / "root").rglob("*.csv")}
    assert modes == {0}


# Identity of images


def test_same_content_is_the_same_image_built_once(context, capfd):
    first = built(context, PROGRAM)

    # When the build context differs only in files that are not part of the image
    (context / "README.md").write_text("not copied")
    again = built(context, "# a comment\n" + PROGRAM)

    assert again == first
    assert "installing" not in capfd.readouterr().err
    # And the id is the digest of the image's configuration, as in any registry
    assert hashlib.sha256((first.folder / "image.json").read_bytes()).hexdigest() == first.id


def test_changed_file_makes_another_image_in_the_same_environment(context):
    first = built(context, PROGRAM)

    (context / "data" / "a.csv").write_text("changed")
    second = built(context, PROGRAM)
    (context / "data" / "a.csv").chmod(0o755)
    third = built(context, PROGRAM)
    (context / "requirements.txt").write_text("six==1.16.0\n")
    other = built(context, PROGRAM)

    assert len({first.id, second.id, third.id, other.id}) == 4
    assert (first.folder / "env").resolve() == (third.folder / "env").resolve()
    assert (first.folder / "env").resolve() != (other.folder / "env").resolve()
    assert (first.folder / "root/opt/data/a.csv").read_text() == "a"


def test_two_builds_at_once_give_one_image(context, home):
    text = PROGRAM + 'LABEL twice="yes"\nRUN pip install tabulate\n'
    (context / "Dockerfile").write_text(text)
    command = [sys.executable, "-m", "local.images", "build", "-t", "twice", str(context)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(_):
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = list(pool.map(start, range(2)))

    assert [each.returncode for each in done] == [0, 0], done
    assert sum("installed image-" in each.stderr for each in done) == 1
    assert store.find("twice").config["Labels"] == {"twice": "yes"}
    assert not list(store.folder().glob(".building*"))


def test_image_whose_environment_is_missing_is_rebuilt(context):
    image = built(context, PROGRAM + 'LABEL gone="yes"\n')
    environment = (image.folder / "env").resolve()
    environment.rename(environment.with_name("elsewhere"))
    try:
        assert not image.intact
        assert built(context, PROGRAM + 'LABEL gone="yes"\n') == image
        assert image.intact
    finally:
        subprocess.run(["rm", "-r", environment.with_name("elsewhere")], check=True)


def test_image_of_an_older_format_is_not_current(context, monkeypatch):
    image = built(context, PROGRAM)
    assert build.current(image)
    monkeypatch.setattr(build, "FORMAT", build.FORMAT + 1)
    assert not build.current(image)


def test_failed_installation_names_its_line_and_leaves_no_files(context, home, capfd):
    before = {path.name for path in [*store.folder().iterdir(), *(home / "envs").iterdir()]}

    with pytest.raises(BuildError) as caught:
        built(context, PROGRAM + "ARG TOKEN=hidden\nRUN pip install six==0.0.0.nowhere$TOKEN\n")

    assert str(caught.value).startswith("Dockerfile:10: RUN pip install six==0.0.0.nowhere$TOKEN: ")
    assert "hidden" not in str(caught.value)
    assert "six" in capfd.readouterr().err  # the installer's message names the package
    assert {path.name for path in [*store.folder().iterdir(), *(home / "envs").iterdir()]} == before


def test_index_of_the_dockerfile_is_used_without_showing_its_password(context, monkeypatch, capfd):
    # Given a base image that was installed from the machine's package index, and a Dockerfile that names an
    # unreachable index
    built(context, FROM)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    text = FROM + "ARG PASSWORD\nRUN pip install --index-url http://me:$PASSWORD@127.0.0.1:1/simple six\n"

    with pytest.raises(BuildError, match="Dockerfile:3: RUN") as caught:
        built(context, text, build_args={"PASSWORD": "hidden"})

    shown = capfd.readouterr().err
    assert "127.0.0.1:1" in shown
    assert "hidden" not in shown + str(caught.value)


# Instructions of a Dockerfile


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        ("COPY data/a.csv /x", ["/x"]),
        ("COPY data/a.csv /x/", ["/x/a.csv"]),
        ("COPY data/a.csv /opt", ["/opt/a.csv"]),  # a folder of the base image
        ("COPY data/a.csv .", ["/w/a.csv"]),
        ("COPY data/a.csv name", ["/w/name"]),
        ("COPY data /x", ["/x/a.csv", "/x/b.csv", "/x/deep/c.json"]),
        ("COPY data/*.csv /x", ["/x/a.csv", "/x/b.csv"]),
        ("COPY data/[^b].csv data/deep/c.json x/", ["/w/x/a.csv", "/w/x/c.json"]),
        ('COPY ["data/a.csv", "/x y/"]', ["/x y/a.csv"]),
        ("COPY --chown=1000:1000 --chmod=0755 data/a.csv /x", ["/x"]),
        ("COPY /data/deep/ /x", ["/x/c.json"]),
        ("ARG name=a\nCOPY data/${name}.csv /$name/", ["/a/a.csv"]),
    ],
)
def test_copy_puts_files_where_docker_does(context, copy, expected):
    assert files(built(context, f"{FROM}WORKDIR /w\n{copy}\n")) == expected


def test_links_stay_links_and_lead_to_the_images_own_file(context):
    (context / "data" / "latest.csv").symlink_to("b.csv")
    image = built(context, FROM + "COPY data /x\nCOPY data/latest.csv /y\n")
    assert (image.folder / "root/x/latest.csv").readlink() == Path("b.csv")
    assert not (image.folder / "root/y").is_symlink()
    assert (image.folder / "root/y").read_text() == "b"


@pytest.mark.parametrize(
    ("rules", "ignored", "kept"),
    [
        ("*.csv", ["a.csv"], ["data/a.csv"]),
        ("**/*.csv", ["a.csv", "data/a.csv", "data/deep/a.csv"], ["data/a.json"]),
        ("data", ["data", "data/a.csv", "data/deep/c.json"], ["database"]),
        ("/data/", ["data/a.csv"], ["other/data/a.csv"]),
        ("*/deep", ["data/deep/c.json"], ["deep", "data/deeper"]),
        ("a?.csv", ["ab.csv"], ["a.csv", "abc.csv"]),
        ("*\n!data/deep", ["data/a.csv", "program"], ["data/deep/c.json"]),
        ("# comment\n\n!a.csv\n*.csv", ["a.csv"], ["comment"]),
        ("data/**", ["data/a.csv", "data/deep/c.json"], ["program"]),
    ],
)
def test_dockerignore_excludes_the_files_that_docker_excludes(tmp_path, rules, ignored, kept):
    (tmp_path / ".dockerignore").write_text(rules)
    context = BuildContext(tmp_path, tmp_path / "Dockerfile")
    assert [path for path in ignored if not context.ignored(path)] == []
    assert [path for path in kept if context.ignored(path)] == []


def test_excluded_files_are_not_copied(context):
    (context / ".dockerignore").write_text("*\n!data\ndata/deep\n")
    assert files(built(context, FROM + "COPY . /x\n")) == ["/x/data/a.csv", "/x/data/b.csv"]
    with pytest.raises(BuildError, match=r"Dockerfile:2: .*\.dockerignore excludes it"):
        built(context, FROM + "COPY requirements.txt /x\n")


def test_arguments_and_variables_are_filled_in(context):
    text = """ARG TAG=nothing
FROM python:${TAG} AS main
ARG TAG
ARG KIND=plain
ARG UNSET
ARG TARGETARCH
ENV A=$KIND B="two words $A" C='$KIND' D=${UNSET}x
ENV LEGACY some   text
LABEL tag=$TAG architecture=${TARGETARCH}
"""
    image = built(context, text, build_args={"TAG": "3.11-slim", "KIND": "special"}, architecture="arm64")
    variables = dict(each.split("=", 1) for each in image.config["Env"])
    # References in an ENV line have the values that the variables had before the line
    assert variables["A"] == "special"
    assert variables["B"] == "two words "
    assert variables["C"] == "$KIND"
    assert variables["D"] == "x"
    assert variables["LEGACY"] == "some   text"
    assert image.config["Labels"] == {"tag": "3.11-slim", "architecture": "arm64"}
    assert image.document["architecture"] == "arm64"


def test_stages_share_files_and_a_target_ends_the_build(context):
    text = (
        "FROM python:3.11-slim AS one\nCOPY data /data\nENV WHO=one\n"
        "FROM one AS two\nENV WHO=two\nCOPY requirements.txt /two\n"
        "FROM python:3.11-slim\nCOPY --from=two /data/*.csv /two /picked/\nCOPY --from=0 /data/deep /deep\n"
    )
    assert files(built(context, text)) == ["/deep/c.json", "/picked/a.csv", "/picked/b.csv", "/picked/two"]
    two = built(context, text, target="two")
    assert files(two) == ["/data/a.csv", "/data/b.csv", "/data/deep/c.json", "/two"]
    assert "WHO=two" in two.config["Env"]


def test_instructions_without_a_local_effect_are_recorded(context):
    image = built(
        context,
        FROM + "RUN groupadd -r app && useradd -r -g app app \\\n    # a comment in between\n"
        " && mkdir -p /opt/out && chown app /opt/out\n"
        "USER app\nEXPOSE 8080 9090/udp\nSTOPSIGNAL SIGTERM\nHEALTHCHECK CMD curl localhost\n",
    )
    assert image.config["User"] == "app"
    assert image.config["ExposedPorts"] == {"8080/tcp": {}, "9090/udp": {}}
    assert image.config["StopSignal"] == "SIGTERM"
    assert (image.folder / "root/opt/out").is_dir()


@pytest.mark.parametrize(
    "command",
    [
        "python -m pip install six==1.17.0",
        'pip3 install --quiet --disable-pip-version-check "six>=1.17" && pip install --upgrade six',
        "--mount=type=cache,target=/root/.cache/pip pip install -c limits.txt six",
        "pip install -rnested.txt --timeout 60 --progress-bar=off",
        '["pip", "install", "six"]',
        "pip install six$VERSION --only-binary :all:",
    ],
)
def test_every_form_of_pip_install_works(context, command):
    (context / "limits.txt").write_text("six==1.17.0\n")
    (context / "nested.txt").write_text("# with a comment\n-r sub/more.txt  # nested\n")
    (context / "sub").mkdir()
    (context / "sub" / "more.txt").write_text("-c ../limits.txt\nsix\n")
    image = built(context, f"{FROM}WORKDIR /w\nARG VERSION===1.17.0\nCOPY . .\nRUN {command}\n")
    argv, environment, _ = image.launch([], ["python", "-c", "import six; print(six.__version__)"])
    assert subprocess.check_output(argv, env=environment, text=True).startswith("1.17")


@pytest.mark.parametrize(
    ("lines", "place", "reason"),
    [
        ("RUN apt-get update", "2: RUN", "the command apt-get is not supported"),
        ("RUN pip install six; pip install x", "2: RUN", "the shell's ; is not supported"),
        ("RUN pip install six>=1", "2: RUN", "the shell's > is not supported, only && is: quote it"),
        ("RUN pip install $(cat x)", "2: RUN", "the shell's ( is not supported"),
        ("RUN pip install six &&", "2: RUN", "a command before or after && is empty"),
        ("RUN pip uninstall six", "2: RUN", "only install is supported"),
        ("RUN pip install --target /x six", "2: RUN", "pip's option --target is not supported"),
        ("RUN pip install --no-cache-dir", "2: RUN", "pip install has no packages"),
        ("RUN pip install .", "2: RUN", "installing from a path is not supported"),
        ("RUN pip install -r requirements.txt", "2: RUN", "/requirements.txt is not a file in the image"),
        ("ENV PIP_INDEX_URL=x\nRUN pip install six", "3: RUN", "PIP_INDEX_URL is not supported"),
        (
            "COPY bad.txt /\nRUN pip install -r /bad.txt",
            "3: RUN",
            "/bad.txt: -e ./program: this option is not",
        ),
        ("RUN --mount=type=secret,id=x pip install six", "2: RUN", "only --mount=type=cache"),
        ("RUN mkdir -m 700 /x", "2: RUN", "mkdir's option -m is not supported"),
        ("RUN python -m a\nRUN pip install six", "3: RUN", "must come before the python command in line 2"),
        ("RUN <<EOF\npip install six\nEOF", "2: RUN", "here-documents are not supported"),
        ("ADD data /x", "2: ADD", "use COPY"),
        ("VOLUME /x", "2: VOLUME", "the instruction VOLUME is not supported"),
        ('SHELL ["bash"]', "2: SHELL", "the instruction SHELL is not supported"),
        ("ENTRYPOINT python -m program", "2: ENTRYPOINT", "only the exec form is supported"),
        ("CMD serve", "2: CMD", "only the exec form is supported"),
        ("CMD", "2: CMD", "the instruction has no arguments"),
        ('ENTRYPOINT ["gunicorn"]', "2: ENTRYPOINT", "the image has no program gunicorn"),
        ('ENTRYPOINT ["/bin/zsh", "x"]', "2: ENTRYPOINT", "the image has no program /bin/zsh"),
        ("COPY nowhere /x", "2: COPY", "nowhere is not in the build context"),
        ("COPY ../secret /x", "2: COPY", "../secret leads outside the build context"),
        ("COPY outside /x", "2: COPY", "outside leads outside the build context"),
        ("COPY absolute /x", "2: COPY", "must be relative and must not leave the image"),
        ("COPY data", "2: COPY", "a source and a destination"),
        ("COPY --exclude=x data /x", "2: COPY", "the option --exclude is not supported"),
        ("COPY --chmod=u+x data /x", "2: COPY", "not an octal mode"),
        ("COPY --from=builder /x /x", "2: COPY", "builder is not an earlier stage"),
        (f"RUN python -m a\n{FROM}COPY --from=0 /x /x", "4: COPY", "cannot be copied to other stages"),
        ("COPY data/a.csv /x\nCOPY data /x", "3: COPY", "/x is already a file in the image"),
        ("ENV A=${B:-default}", "2: ENV", "${B:-default} is not supported"),
        ("ENV A", "2: ENV", "A has no value"),
        ("LABEL a=b c", "2: LABEL", "c is not NAME=VALUE"),
        ("EXPOSE http", "2: EXPOSE", "http is not a port"),
        ("FROM scratch", "2: FROM", "add it to local/images/bases.toml"),
        ("FROM python:3.11-slim builder", "2: FROM", "FROM image AS name"),
        ("WORKDIR /x \\", "2: WORKDIR", "not part of a complete instruction"),
        ("??", "2: ??", ""),
    ],
)
def test_unsupported_instruction_is_refused_with_file_and_line(context, lines, place, reason):
    (context / "bad.txt").write_text("-e ./program\n")
    (context / "outside").symlink_to("/etc/hostname")
    (context / "absolute").mkdir()
    (context / "absolute" / "link").symlink_to("/etc/hostname")
    before = set(store.folder().iterdir())

    with pytest.raises(BuildError) as caught:
        built(context, FROM + lines + "\n")

    assert str(caught.value).startswith(f"Dockerfile:{place}")
    assert reason in str(caught.value)
    assert set(store.folder().iterdir()) == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Dockerfile: the file has no instructions"),
        ("ARG A=1\n", "Dockerfile: there is no FROM"),
        ("COPY a b\n" + FROM, "Dockerfile:1: COPY a b: it must come after the first FROM"),
        ("FROM nginx:1\n", "Dockerfile:1: FROM nginx:1: the base image nginx:1 is not known: add it to"),
    ],
)
def test_invalid_dockerfile_is_refused(context, text, reason):
    with pytest.raises(BuildError) as caught:
        built(context, text)
    assert str(caught.value).startswith(reason)


def test_missing_dockerfile_or_stage_is_named(context):
    with pytest.raises(BuildError, match=r"other/Dockerfile: the file does not exist"):
        build.build(context, context / "other" / "Dockerfile")
    with pytest.raises(BuildError, match="there is no stage named nowhere"):
        built(context, FROM, target="nowhere")


def test_digest_pins_a_listed_base():
    digest = "@sha256:" + "0" * 64
    assert bases.find("python:3.11-slim" + digest).python == "3.11"
    with pytest.raises(LookupError, match="not known"):
        bases.find("python" + digest)
    with pytest.raises(LookupError, match="not known"):
        bases.find("python:3.11-alpine" + digest)


@pytest.mark.parametrize("dockerfile", sorted((ROOT / "containers").glob("*/*/Dockerfile")), ids=str)
def test_every_dockerfile_of_the_project_is_understood(dockerfile):
    from local.images.recipe import evaluate

    stage = evaluate(dockerfile, ROOT / "containers", {}, None, "amd64", lambda line: None)
    assert stage.entrypoint
