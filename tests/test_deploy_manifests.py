"""The manifests and the Compose file: valid for the clusters they are for, restricted, and about settings that exist."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from tools_deploy import DEPLOY, OVERLAYS, compose, containers, one, program, rendered, variables_of_manifests

from safeai_git.governor.auth.rules import load_certificates
from safeai_git.governor.settings import VARIABLES
from safeai_git.policyfile import load

ROOT = Path(__file__).parent.parent
CLIENT = {"SAFEAI_KEY", "SAFEAI_TOKEN", "SAFEAI_GOVERNOR", "SAFEAI_GOVERNOR_KEY"}
"""Variables of the client that the pages name besides."""

VERSIONS = ("1.25", "1.29", "1.33", kubernetes_validate.latest_version())


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_fits_the_schema_of_the_cluster(overlay: str, version: str) -> None:
    for resource in rendered(overlay):
        kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_example_of_a_way_to_vault_fits_it_too(version: str) -> None:
    example = yaml.safe_load((DEPLOY / "kubernetes/examples/networkpolicy-vault.yaml").read_text())
    kubernetes_validate.validate(example, version, strict=True)


def test_every_way_out_and_in_is_named() -> None:
    """DNS, TLS, the database where there is one; in from the ingress and from who scrapes; never the cloud's metadata."""
    single = one("single", "NetworkPolicy")["spec"]
    assert set(single["policyTypes"]) == {"Ingress", "Egress"}
    assert [port["port"] for rule in single["egress"] for port in rule["ports"]] == [53, 53, 443]
    assert len(single["ingress"]) == 1
    assert len(single["ingress"][0]["from"]) == 2
    blocks = [peer["ipBlock"] for rule in single["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert all(block["except"] for block in blocks)
    database = one("ha", "NetworkPolicy", "safe-ai-governor-postgresql")["spec"]
    assert [port["port"] for rule in database["egress"] for port in rule["ports"]] == [5432]
    spread = one("ha", "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert {row["topologyKey"] for row in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    for overlay in OVERLAYS:
        budget = one(overlay, "PodDisruptionBudget")["spec"]
        assert budget["selector"] == {"matchLabels": {"app": "safe-ai-governor"}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_resource_that_does_not_fit_is_found(overlay: str) -> None:
    broken = one(overlay, "Deployment") | {"spec": one(overlay, "Deployment")["spec"] | {"replicsa": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_what_the_restricted_profile_asks_for(overlay: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, column "Restricted"."""
    pod = one(overlay, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["automountServiceAccountToken"] is False
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for container in containers(overlay):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }, container["name"]
        assert {"requests", "limits"} <= container["resources"].keys(), container["name"]
        assert container["image"] == "safe-ai-governor:0.1.0"
    labels = one(overlay, "Namespace", "safe-ai")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_ports_probes_and_limits_are_those_that_users_know(overlay: str) -> None:
    governor = containers(overlay)[-1]
    assert governor["ports"] == [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]
    assert governor["livenessProbe"]["httpGet"] == {"path": "/livez", "port": 8000}
    assert governor["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8000}
    startup = governor["startupProbe"]  # as long as a log of a year takes to be read, docs/deploy/scale.md
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 7200
    assert governor["resources"] == {
        "requests": {"memory": "512Mi", "cpu": "500m"},
        "limits": {"memory": "1Gi", "cpu": "1000m"},
    }
    mounts = {mount["mountPath"] for mount in governor["volumeMounts"]}
    assert {"/data", "/app/config", "/tmp"} <= mounts
    annotations = one(overlay, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "8000"
    assert one(overlay, "Service")["spec"]["selector"] == {"app": "safe-ai-governor"}


def test_one_replica_owns_the_file_and_many_share_the_database() -> None:
    single = one("single", "Deployment")["spec"]
    assert (single["replicas"], single["strategy"]["type"]) == (1, "Recreate")
    assert not [row for row in rendered("single") if row["kind"] == "HorizontalPodAutoscaler"]
    many = one("ha", "Deployment")["spec"]
    assert "replicas" not in many
    assert "SAFEAI_DATABASE_URL" in {entry["name"] for entry in containers("ha")[-1]["env"]}
    scaler = one("ha", "HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 10)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_stands_in_a_manifest(overlay: str) -> None:
    secret = {variable.name for variable in VARIABLES if variable.secret}
    for container in containers(overlay):
        for entry in container.get("env", []):
            if entry["name"] in secret:
                assert "secretKeyRef" in entry.get("valueFrom", {}), entry["name"]
    assert not [row for row in rendered(overlay) if row["kind"] == "Secret"]
    for name, service in compose()["services"].items():
        for key, value in service.get("environment", {}).items():
            if key in secret or key.endswith("PASSWORD"):
                assert "${" in value, (name, key)


def test_the_role_grants_nothing() -> None:
    assert one("single", "Role")["rules"] == []


def test_every_variable_that_is_set_is_one_and_every_one_is_documented() -> None:
    known = {variable.name for variable in VARIABLES}
    assert variables_of_manifests() <= known
    table = re.findall(
        r"^\| `(SAFEAI_[A-Z_]+)` \|", (ROOT / "docs/deploy/settings.md").read_text(), re.MULTILINE
    )
    assert table == [variable.name for variable in VARIABLES]
    known |= {f"{variable.name}_FILE" for variable in VARIABLES if variable.secret} | CLIENT
    for page in [*(ROOT / "docs" / "deploy").rglob("*"), *DEPLOY.rglob("*")]:
        if page.is_file():
            named = set(re.findall(r"\bSAFEAI_[A-Z][A-Z_]+[A-Z]\b", page.read_text()))
            assert named <= known, page


def test_the_table_of_settings_says_what_the_settings_say() -> None:
    text = (ROOT / "docs/deploy/settings.md").read_text()
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else "none"
        kind = " (secret)" if variable.secret else ""
        assert f"| `{variable.name}` | {default} | {variable.meaning}{kind} |" in text


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_configuration_that_is_shipped_can_be_read(overlay: str) -> None:
    (config,) = [row for row in rendered(overlay) if row["kind"] == "ConfigMap"]
    assert load(config["data"]["policy.yaml"].encode(), "policy.yaml").max_edits
    assert load_certificates(config["data"]["certificates.yaml"].encode(), "certificates.yaml")


def test_the_compose_file_fits_its_schema() -> None:
    """That of compose-spec, as check-jsonschema ships it."""
    done = subprocess.run(
        [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose/compose.yaml")],
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_compose_itself_reads_the_file() -> None:
    if subprocess.run([program("docker"), "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker has no plugin 'compose'")
    for profile in ("single", "ha"):
        done = subprocess.run(
            ["docker", "compose", "--file", DEPLOY / "compose/compose.yaml", "--profile", profile, "config", "--quiet"],
            env=dict(os.environ) | {"JWT_SECRET": "x" * 32, "GRAFANA_PASSWORD": "x", "POSTGRES_PASSWORD": "x"},
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_every_service_of_the_compose_file_is_hardened_alike() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"], name
        assert service["mem_limit"], name
        assert int(service["user"].partition(":")[0]) > 0, name
        assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & service.keys(), name
        assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), (
            f"{name}: {service['image']} is no version"
        )
        for volume in service.get("volumes", []):
            text = volume if isinstance(volume, str) else volume["source"]
            assert "docker.sock" not in text, name
            assert not text.startswith((".", "/")) or text.endswith(":ro"), (name, text)
        assert set(service["profiles"]) <= {"single", "ha"}, name
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        "safe-ai-governor": ["127.0.0.1:8000:8000"],
        "nginx": ["127.0.0.1:8000:8000"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_what_the_compose_file_mounts_and_waits_for_is_there() -> None:
    file = compose()
    for name, service in file["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
            if source.startswith("."):
                assert (DEPLOY / "compose" / source).exists(), (name, source)
            else:
                assert source in file["volumes"], (name, source)
        for other in service.get("depends_on", []):
            assert set(service["profiles"]) <= set(file["services"][other]["profiles"]), (name, other)
