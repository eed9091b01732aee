"""Mounts are what the spec says, and no image leads one out of its root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError
from docklock.kernel import mount as kernel
from docklock.plan import Overlay, build_plan
from docklock.spec import Mount, Spec

SpecOf = Callable[..., Spec]


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "dev/pts", "dev/shm"])
def test_no_kernel_file_system_is_mounted_over_a_link(
    launch: Any, bundle: Any, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = bundle.rootfs / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    outcome = launch("true", "")
    if name in ("proc", "sys"):
        assert "symbolic link" in outcome.result["error"]
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_not_even_over_a_link_to_another_directory_of_the_image(
    launch: Any, bundle: Any, name: str
) -> None:
    (bundle.rootfs / "other").mkdir()
    (bundle.rootfs / name).symlink_to("other")
    result = launch("true", "").result
    assert "a symbolic link stands where" in result["error"]


@pytest.mark.parametrize("target", ["/outside", "../../outside", "/proc/self/root/outside"])
def test_a_link_in_the_image_never_leads_a_bind_out(
    launch: Any, bundle: Any, spec_of: SpecOf, tmp_path: Path, target: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    source = tmp_path / "source"
    source.mkdir()
    (source / "mark").write_text("bound")
    absolute = f"{tmp_path}/outside" if target == "/outside" else target
    (bundle.rootfs / "data").symlink_to(absolute)
    mount = Mount("/data/deep/dir", "bind", str(source), ("rbind",))
    outcome = launch(spec=spec_of("sh", "-c", "cat /data/deep/dir/mark; echo", mounts=(mount,)))
    assert list(outside.iterdir()) == []
    if "error" not in outcome.result:
        assert outcome.output == "bound"


def test_a_mask_or_a_read_only_path_ends_inside(
    launch: Any, bundle: Any, spec_of: SpecOf, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    (bundle.rootfs / "masked").symlink_to(secret)
    (bundle.rootfs / "inner").write_text("the image's")
    (bundle.rootfs / "ro").symlink_to("/inner")
    spec = spec_of("sh", "-c", "cat /inner; echo; echo x > /inner || echo refused")
    linux = spec.linux._replace(masked_paths=("/masked",), readonly_paths=("/ro",))
    outcome = launch(spec=spec._replace(linux=linux))
    assert outcome.output == "the image's\nrefused"
    assert secret.read_text() == "the host's"


def test_masked_and_read_only_kernel_files(launch: Any) -> None:
    line = "cat /proc/keys /proc/timer_list; ls /sys/firmware /proc/acpi; echo 1 > /proc/sys/x"
    outcome = launch(f"{line} 2>/dev/null || echo refused; touch /sys/fs/cgroup/x || echo also")
    assert [text for text in outcome.output.split() if not text.endswith(":")] == [
        "refused",
        "also",
    ]


@pytest.mark.parametrize("option", ["ro", "rw"])
def test_a_bind_is_read_only_with_what_lies_below(
    launch: Any, bundle: Any, spec_of: SpecOf, tmp_path: Path, option: str
) -> None:
    volume, file = tmp_path / "v", tmp_path / "file"
    (volume / "sub").mkdir(parents=True)
    file.write_text("")
    kernel.mount("tmpfs", str(volume / "sub"), "tmpfs", 0, "size=64k")
    try:
        mounts = (
            Mount("/v", "bind", str(volume), ("rbind", option)),
            Mount("/f", "bind", str(file), ("bind", option)),
        )
        line = "touch /v/sub/a && echo wrote; echo b > /f && echo wrote"
        outcome = launch(spec=spec_of("sh", "-c", line, mounts=mounts))
        assert outcome.output.split() == ([] if option == "ro" else ["wrote", "wrote"])
        assert (volume / "sub" / "a").exists() == (option == "rw")
    finally:
        kernel.umount2(str(volume / "sub"))


def test_a_read_only_root_with_a_writable_tmpfs(launch: Any, spec_of: SpecOf) -> None:
    line = "touch /x || echo refused; touch /tmp/x && grep ' /tmp ' /proc/mounts"
    spec = spec_of("sh", "-c", line, readonly=True, tmpfs=(("/tmp", ("size=1m",)),))
    outcome = launch(spec=spec)
    assert outcome.output.startswith("refused")
    assert "size=1024k" in outcome.output
    assert "noexec" in outcome.output


@pytest.mark.parametrize(("count", "length"), [(1, 8), (25, 20), (60, 90)])
def test_many_layers_make_one_root(
    launch: Any, bundle: Any, tmp_path: Path, count: int, length: int
) -> None:
    layers = []
    for number in range(count):
        layer = tmp_path / "layers" / f"sha256:{number:0{length}d},\\"
        layer.mkdir(parents=True)
        (layer / f"file{number}").write_text(str(number))
        (layer / "top").write_text(str(number))
        layers.append(layer)
    (bundle.rootfs / "bin").rename(layers[-1] / "bin")
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    job: dict[str, Any] = {"lowers": [str(layer) for layer in layers]}
    job |= {"upper": str(tmp_path / "upper"), "work": str(tmp_path / "work")}
    outcome = launch("ls -d /file* | grep -c file; cat /top; echo; echo hi > /new", job=job)
    assert outcome.output.split() == [str(count), "0"]
    assert (tmp_path / "upper" / "new").read_text() == "hi\n"


def test_a_plan_tells_every_step_and_does_nothing(spec_of: SpecOf, tmp_path: Path) -> None:
    overlay = Overlay(("/l/a", "/l/b"), "/u", "/w")
    plan = build_plan(spec_of("true"), str(tmp_path / "none"), overlay=overlay)
    lines = plan.describe()
    assert "new mount namespace" in lines
    assert f"mount overlay of 2 layers on {tmp_path}/none/rootfs" in lines
    assert "mount proc on /proc (nosuid,nodev,noexec)" in lines
    assert "mask /proc/kcore" in lines
    assert lines[-3:] == ("set no_new_privs", "install the filter", "execute true")
    assert len(lines) == len(set(lines))
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_would_be_dropped_is_refused(spec_of: SpecOf) -> None:
    for mount in (
        Mount("/x", "tmpfs", "tmpfs", ("shared",)),
        Mount("/x", "bind", "/tmp", ("rbind", "size=5")),
    ):
        with pytest.raises(SpecError, match="/x"):
            build_plan(spec_of("true", mounts=(mount,)), "/b")
