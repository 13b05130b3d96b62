"""The files of examples/cluster/serve are valid and name a real command."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from scriven.cli import build_app
from scriven.errors import SettingError
from scriven.serve.server import ServeOptions

FOLDER = Path(__file__).parents[2] / "examples" / "cluster" / "serve"


def understood(words: list[str]) -> dict[str, Any]:
    """The arguments that `scriven` takes these words for."""
    assert words[0] == "scriven"
    command, bound, _ = build_app("serve").parse_args(
        words[1:], exit_on_error=False, print_error=False
    )
    assert getattr(command, "__name__", "") == "serve"
    return dict(bound.arguments)


def test_the_image_serves_to_other_machines_with_a_key() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    instructions = re.findall(r"^([A-Z]+) ", text, re.M)
    assert instructions[0] == "FROM" and instructions[-1] == "CMD"
    assert instructions.index("USER") < instructions.index("CMD"), "not as root"
    (command,) = re.findall(r"^CMD (\[\"scriven.*\])$", text, re.M)
    arguments = understood(json.loads(command))
    options = {name: arguments[name] for name in ("host", "port")}
    with pytest.raises(SettingError, match="--api-key"):
        ServeOptions(**options)
    assert ServeOptions(**options, api_key="key").hosts is None


def test_the_manifests_fit_together() -> None:
    deployment, service = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["containerPort"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health", "needs no key"
    assert [each["name"] for each in container["env"]] == ["SCRIVEN_API_KEY"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > ServeOptions().grace_seconds


def test_the_proxy_names_the_host_that_the_server_allows() -> None:
    text = (FOLDER / "nginx.conf").read_text()
    assert text.count("{") == text.count("}")
    (command,) = re.findall(r"`(scriven serve [^`]*)`", text)
    arguments = understood(shlex.split(command))
    (name,) = re.findall(r"server_name (\S+);", text)
    assert name in (ServeOptions(allowed_hosts=arguments["allowed_host"]).hosts or ())
    assert "proxy_buffering off" in text
