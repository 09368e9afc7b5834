"""Containers in separate namespaces, with IAM enforced: what they can access, what remains after a job, and
containers in the style of AWS's examples."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import LocalCloud
from tests.support.hosting import CONTAINERS, Bench
from tests.support.processes import processes
from tests.support.waiting import until
from tooling import envs

CONTAINER = CONTAINERS / "namespaces"
TEMPORARY = Path("/tmp")  # noqa: S108 - the test writes nothing to it
ENDED = ("Completed", "Failed", "Stopped")
ALWAYS = {
    "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "root", "run", "sbin", "sys",
    "tmp", "usr", "var",
}  # fmt: skip

numbers = itertools.count()


class World(Bench):
    """A cloud with a container image, and a role that may train and serve with this image."""

    def __init__(self, cloud: LocalCloud):
        super().__init__(cloud, CONTAINER)
        put = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{self.bucket}/*"}
        self.role = self.new_role("trains", *self.grants(), put)

    def begin(self, script: str, instances: int = 1, **members: Any) -> str:
        """Start a job that runs `script` in each container; return its name."""
        name = f"{self.name}-{next(numbers)}"
        self.sagemaker.create_training_job(
            **{
                "TrainingJobName": name,
                "AlgorithmSpecification": {"TrainingImage": self.image, "TrainingInputMode": "File"},
                "RoleArn": self.role,
                "HyperParameters": {"script": script} | members.pop("hyperparameters", {}),
                "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/out"},
                "ResourceConfig": {
                    "InstanceType": "ml.m5.large",
                    "InstanceCount": instances,
                    "VolumeSizeInGB": 1,
                },
                "StoppingCondition": {"MaxRuntimeInSeconds": 300},
            }
            | members
        )
        return name

    def end(self, name: str) -> dict[str, Any]:
        def job() -> dict[str, Any] | None:
            found = self.sagemaker.describe_training_job(TrainingJobName=name)
            return found if found["TrainingJobStatus"] in ENDED else None

        return until(job, f"the end of {name}")

    def train(self, script: str, instances: int = 1, **members: Any) -> dict[str, str]:
        """Run a job to its end; return the text of each file of its model, by name."""
        job = self.end(self.begin(script, instances, **members))
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{self.bucket}/")
        body = self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            return {
                member.name: archive.extractfile(member).read().decode()  # pyright: ignore
                for member in archive.getmembers()
                if member.isfile()
            }

    def probe(self, script: str, **hyperparameters: Any) -> Any:
        """Run a job of one instance; return the content of its file `answer`."""
        script += "\n(MODEL / 'answer').write_text(json.dumps(answer))"
        given = {name: json.dumps(value) for name, value in hyperparameters.items()}
        return json.loads(self.train(script, hyperparameters=given)["answer"])


@pytest.fixture(scope="module")
def world(cloud: LocalCloud) -> Iterator[World]:
    paces = {"training_log_interval": 0.1, "training_checkpoint_interval": 0.1}
    paces |= {"create_training_job_burst": 50}
    cloud.configure(container_isolation="namespaces", **paces)
    made = World(cloud)
    cloud.enforce_iam(True)
    yield made
    cloud.enforce_iam(False)
    cloud.configure(container_isolation=None, **dict.fromkeys(paces))


def test_container_sees_neither_home_nor_state_nor_other_jobs(
    world: World, cloud: LocalCloud, tmp_path: Path
) -> None:
    # given a file outside of the container, the secrets of the local cloud, and another running job
    (tmp_path / "private").write_text("mine")
    other = world.begin("time.sleep(300)")
    until(lambda: processes("TRAINING_JOB_NAME", other), "the start of the other job")
    (folder,) = (cloud.home / "instances" / "training").glob("*")
    own = {part for path in (sys.base_prefix, envs.home()) for part in (Path(path), *Path(path).parents)}
    hidden = [
        *(path for path in Path.home().iterdir() if path not in own),
        *(path for path in Path("/").iterdir() if path not in own and path.name not in ALWAYS),
        *(tmp_path / "private", cloud.home, cloud.snowflake, folder, folder / "ml"),
        *(Path("/etc/shadow"), envs.ROOT / "README.md"),
    ]
    assert all(os.path.lexists(path) for path in hidden)
    # when a container searches for the file, the secrets and the job, and lists processes
    script = """
answer = {
    "paths": [path for path in json.loads(hyperparameters["hidden"]) if os.path.lexists(path)],
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "own": os.getpid(),
    "root": os.listdir("/"),
    "data": sorted(os.listdir("/opt/ml/input/data")),
}
"""
    answer = world.probe(script, hidden=[str(path) for path in hidden])
    world.sagemaker.stop_training_job(TrainingJobName=other)
    world.end(other)
    # then the container finds none of them, and lists its own processes only
    assert answer["paths"] == []
    assert answer["processes"] == [1, answer["own"]]
    shown = {".python", *(path.parts[1] for path in own if len(path.parts) > 1)}
    assert set(answer["root"]) <= ALWAYS | shown
    assert answer["data"] == []


def test_container_cannot_change_files_outside(world: World, cloud: LocalCloud, tmp_path: Path) -> None:
    # given folders of this machine, some of which exist in a container too
    targets = [tmp_path, cloud.home, Path.home(), Path("/etc"), Path("/usr/bin"), Path("/usr/local/bin")]
    targets += [TEMPORARY, Path(sys.base_prefix), Path(os.__file__).parent]
    # Writes to these folders are refused; files written to the other folders may exist in the container only.
    closed = [Path("/sys/devices/system"), Path("/proc/sys/kernel")]
    if not Path(os.__file__).is_relative_to("/usr"):
        closed.append(Path(os.__file__).parent)
    files = [str(folder / "written-by-a-container") for folder in {*targets, *closed}]
    domain = Path("/proc/sys/kernel/domainname").read_text()
    # when a container writes to all of these folders, and tries to change the kernel's settings, mount file
    # systems and create namespaces
    script = """
answer = {"refused": []}
for path in json.loads(hyperparameters["files"]):
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write("x")
    except OSError:
        answer["refused"].append(path)
try:
    open("/proc/sys/kernel/domainname", "w").write("taken")
except OSError as error:
    answer["kernel"] = error.errno
run = lambda *command: subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).returncode
answer["ways"] = [
    run("mount", "-o", "remount,rw,bind", "/sys/devices/system"),
    run("umount", "/proc/sys"),
    run("mount", "-t", "tmpfs", "none", "/mnt"),
    run("unshare", "--user", "--map-root-user", "--mount", "true"),
]
answer["wrote"] = open("/tmp/written-by-a-container").read()
"""
    answer = world.probe(script, files=files)
    # then no file was written on this machine, and the other attempts were refused
    assert not [path for path in files if os.path.lexists(path)]
    assert answer["wrote"] == "x"
    assert {str(folder / "written-by-a-container") for folder in closed} <= set(answer["refused"])
    assert answer["kernel"]
    assert Path("/proc/sys/kernel/domainname").read_text() == domain
    assert 0 not in answer["ways"]


STEALS = """
secret, folder = pathlib.Path(hyperparameters["secret"]), pathlib.Path("/opt/ml/checkpoints")
(folder / "file").symlink_to(secret)
(folder / "folder").symlink_to(secret.parent)
(folder / "own").write_text("own")
(folder / "link").symlink_to("own")
(MODEL / "file").symlink_to(secret)
(MODEL / "own").write_text("own")
os.rmdir("/opt/ml/output/data")
os.symlink(secret.parent, "/opt/ml/output/data")
os.symlink(secret, "/opt/ml/output/failure")
time.sleep(0.5)
sys.exit(int(hyperparameters["code"]))
"""
"""Script that writes links to a file outside of the container, at all paths where the cloud reads a
container's files. The script runs on while the cloud copies checkpoints."""


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("compression", ["GZIP", "NONE"])
def test_cloud_follows_no_link_out_of_a_container(
    world: World, tmp_path: Path, code: int, compression: str
) -> None:
    # given a file outside of the container, and a job that creates links to that file
    (tmp_path / "secret").write_text("nobody's business")
    prefix = f"{next(numbers)}-stolen"
    name = world.begin(
        STEALS,
        hyperparameters={"secret": str(tmp_path / "secret"), "code": str(code)},
        CheckpointConfig={"S3Uri": f"s3://{world.bucket}/{prefix}/checkpoints"},
        OutputDataConfig={"S3OutputPath": f"s3://{world.bucket}/{prefix}", "CompressionType": compression},
    )
    # when the job has ended
    job = world.end(name)
    assert job["TrainingJobStatus"] == ("Failed" if code else "Completed")
    # then S3 has the files that the job wrote, and not the file outside of the container
    s3 = world.client("s3")
    found = s3.list_objects_v2(Bucket=world.bucket, Prefix=prefix)["Contents"]
    stored = {each["Key"]: s3.get_object(Bucket=world.bucket, Key=each["Key"]) for each in found}
    bodies = {key.removeprefix(f"{prefix}/"): answer["Body"].read() for key, answer in stored.items()}
    assert bodies["checkpoints/own"] == bodies["checkpoints/link"] == b"own"
    for key, body in bodies.items():
        whole = gzip.decompress(body) if key.endswith(".gz") else body
        assert b"nobody's business" not in whole, key
    assert not [key for key in bodies if "secret" in key]
    assert "nobody's business" not in job.get("FailureReason", "")


LEAVES = """
child = "import os, time; os.setsid(); os.fork() and os._exit(0); open('/tmp/left', 'w'); time.sleep(300)"
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
subprocess.Popen([sys.executable, "-c", child], **quiet)
pathlib.Path("/tmp/closed/inner").mkdir(parents=True)
pathlib.Path("/opt/ml/output/data/closed/inner").mkdir(parents=True)
for folder in ("/tmp/closed", "/opt/ml/output/data/closed"):
    os.chmod(folder, 0)
while not os.path.exists("/tmp/left"):
    time.sleep(0.01)
"""
"""Script that starts a process in another process session, and makes folders without any permission."""


def test_ended_job_leaves_no_processes_and_files(world: World, cloud: LocalCloud) -> None:
    before = set(TEMPORARY.iterdir())
    # the output folder must be readable again when the job ends, so that it can be uploaded
    script = LEAVES + "os.chmod('/opt/ml/output/data/closed', 0o755)"
    name = world.begin(script)
    assert world.end(name)["TrainingJobStatus"] == "Completed"
    assert not processes("TRAINING_JOB_NAME", name)
    assert not list((cloud.home / "instances" / "training").glob("*"))
    assert str(cloud.home) not in Path("/proc/mounts").read_text()
    assert not [path for path in set(TEMPORARY.iterdir()) - before if path.name == "closed"]


def test_killed_cloud_leaves_no_processes_and_files_of_a_job(tmp_path: Path) -> None:
    # given a separate local cloud, and a job whose process starts another process in a new session
    with LocalCloud(tmp_path / "cloud") as cloud:
        world = World(cloud)
        name = world.begin(LEAVES + "time.sleep(300)")
        until(lambda: len(processes("TRAINING_JOB_NAME", name)) >= 2, "the start of the job")
        # when the cloud is killed
        cloud.kill()
        # then the job's processes end, and the next start of the cloud removes the job's files
        until(lambda: not processes("TRAINING_JOB_NAME", name), "the end of the job's processes")
        cloud.start()
        assert not list((cloud.home / "instances" / "training").glob("*"))


def test_hosts_find_each_other_by_sagemakers_host_names(world: World) -> None:
    # given a job with two hosts, of which the second connects to the first by its host name
    s3 = world.client("s3")
    s3.put_object(Bucket=world.bucket, Key="data/rows.csv", Body=b"1,2")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{world.bucket}/data"}
    script = """
assert socket.gethostname() == host
rows = open("/opt/ml/input/data/train/rows.csv").read()
if host == "algo-1":
    with socket.create_server((host, 7777)) as server:
        peer, address = server.accept()
        with peer:
            heard = peer.recv(100).decode()
else:
    heard = ""
    while not heard:
        try:
            with socket.create_connection(("algo-1", 7777)) as peer:
                peer.sendall(host.encode())
                heard = "told"
        except ConnectionRefusedError:
            time.sleep(0.05)
(MODEL / host).write_text(f"{rows} {heard}")
(MODEL / f"hosts-of-{host}").write_text(" ".join(hosts))
"""
    # when the job runs, then the hosts have SageMaker's host names, and reach each other by them
    channel = {"ChannelName": "train", "DataSource": {"S3DataSource": source}}
    assert world.train(script, 2, InputDataConfig=[channel]) == {
        "algo-1": "1,2 algo-2",
        "algo-2": "1,2 told",
        "hosts-of-algo-1": "algo-1 algo-2",
        "hosts-of-algo-2": "algo-1 algo-2",
    }


REACH = """
def reached(name, port):
    try:
        socket.create_connection((name, port), 2).close()
        return True
    except OSError:
        return False

given = json.loads(pathlib.Path("/opt/ml/input/config/hyperparameters.json").read_text())
with socket.create_server((host, 5000)):
    missing, until = set(hosts), time.monotonic() + 60
    while missing and time.monotonic() < until:
        missing = {each for each in missing if not reached(each, 5000)}
    machine = reached("127.0.0.1", int(given["port"]))
    (MODEL / host).write_text(json.dumps({"missing": sorted(missing), "machine": machine}))
    with socket.create_server((host, 5001)):  # an open port 5001 says that this host is done
        while any(reached(each, 5000) and not reached(each, 5001) for each in hosts):
            time.sleep(0.05)
"""


@pytest.mark.parametrize("isolated", [True, False])
def test_isolated_job_reaches_its_own_hosts_only(world: World, isolated: bool) -> None:
    # given a listener on this machine, outside of any container
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = str(outside.getsockname()[1])
        # when the hosts of a job connect to it and to each other
        files = world.train(REACH, 2, EnableNetworkIsolation=isolated, hyperparameters={"port": port})
    # then the hosts reach each other, and the listener only if the job is not isolated
    found = [json.loads(files[name]) for name in ("algo-1", "algo-2")]
    assert [each["missing"] for each in found] == [[], []]
    assert {each["machine"] for each in found} == {not isolated}


def test_container_of_an_endpoint_has_files_at_literal_paths(world: World) -> None:
    endpoint = world.endpoint(world.config(model=world.model("weights")))
    assert world.ask(endpoint) == {"model": "weights", "name": "model.aws.local", "seen": ["ml", "program"]}
    world.sagemaker.delete_endpoint(EndpointName=endpoint)


SDK = """
import os, sys, tempfile
from pathlib import Path

folder, image, role, bucket = sys.argv[1:]
modules = f"{{TelemetryOptOut: true, Session: {{DefaultS3Bucket: {bucket}}}}}"
defaults = Path(folder, "sagemaker.yaml")
defaults.write_text(f"{{SchemaVersion: '1.0', SageMaker: {{PythonSDK: {{Modules: {modules}}}}}}}")
os.environ |= {"SAGEMAKER_VALIDATE_ROLE": "false", "SAGEMAKER_USER_CONFIG_OVERRIDE": str(defaults)}

from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, OutputDataConfig, SourceCode, StoppingCondition

trainer = ModelTrainer(
    training_image=image,
    role=role,
    base_job_name="sdk",
    source_code=SourceCode(source_dir=f"{folder}/source", entry_script="train.py"),
    compute=Compute(instance_type="ml.m5.large", instance_count=2, volume_size_in_gb=1),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=300),
    output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/sdk"),
    hyperparameters={"rate": 0.5},
)
trainer.train(wait=False, logs=False)
print(trainer._latest_training_job.training_job_name)
"""
SOURCE = """
import os
from pathlib import Path

if os.environ["SM_CURRENT_HOST"] == os.environ["SM_MASTER_ADDR"]:
    text = " ".join([os.environ["SM_HP_RATE"], os.environ["SM_HOSTS"], os.getcwd()])
    Path(os.environ["SM_MODEL_DIR"], "said").write_text(text)
"""


def test_script_mode_of_the_sdk_works(world: World, cloud: LocalCloud, tmp_path: Path) -> None:
    # given a training script that is not in the image
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").write_text(SOURCE)
    # when version 3 of SageMaker's Python SDK starts a training job with the script and the image
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("AWS_")
    } | cloud.env()
    command = [str(envs.environment("notebooks")), "-c", SDK]
    arguments = [str(tmp_path), world.image, world.role, world.bucket]
    done = subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    # then the start command that the SDK writes, with /bin/bash and absolute paths, works on both hosts
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    job = world.end(done.stdout.split()[-1])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["AlgorithmSpecification"]["ContainerEntrypoint"] == ["/bin/bash"]
    key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{world.bucket}/")
    body = world.client("s3").get_object(Bucket=world.bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        said = archive.extractfile("said")
        assert said is not None
        assert said.read().decode() == '0.5 ["algo-1", "algo-2"] /opt/ml/input/data/code'


# Without namespaces


def test_status_and_log_report_plain_processes(world: World, cloud: LocalCloud) -> None:
    assert cloud.status()["containers"] == "isolated in Linux namespaces"
    cloud.configure(container_isolation="plain")
    try:
        # when a container runs without namespaces (its entry point is not an absolute path, because that path
        # would not exist on this machine)
        config = "os.environ['SAGEMAKER_BASE_DIR'] + '/input/config/resourceconfig.json'"
        script = f"import json, os; print(json.load(open({config}))['hosts'])"
        algorithm = {"TrainingImage": world.image, "TrainingInputMode": "File"}
        algorithm |= {"ContainerEntrypoint": ["python", "-c", script]}
        name = world.begin("", AlgorithmSpecification=algorithm)
        assert world.end(name)["TrainingJobStatus"] == "Completed"
        # then the cloud's status and the job's log say that containers are plain processes, and why; the
        # job's host name is an IP address
        why = "plain processes: the setting container_isolation is plain"
        assert cloud.status()["containers"] == why
        logs, group = world.client("logs"), "/aws/sagemaker/TrainingJobs"
        (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=name)["logStreams"]
        events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
        first, second = [event["message"] for event in events]
        assert first == f"Groundplan: this container is not isolated. Containers run as {why}"
        assert second.startswith("['127.")
    finally:
        cloud.configure(container_isolation="namespaces")
