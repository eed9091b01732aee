"""References are read as Docker reads them."""

from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from docklock.image.reference import parse_reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("a/b/c:x", "docker.io/a/b/c:x", "a/b/c:x"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("quay.io/a/b__c-d.e", "quay.io/a/b__c-d.e:latest", "quay.io/a/b__c-d.e:latest"),
        ("UPPER/x", "UPPER/x:latest", "UPPER/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        (f"x@sha256:{HEX}", f"docker.io/library/x@sha256:{HEX}", f"x@sha256:{HEX}"),
        (f"x:y@sha256:{HEX}", f"docker.io/library/x@sha256:{HEX}", f"x@sha256:{HEX}"),
    ],
)
def test_a_reference_gets_docker_s_full_and_familiar_form(
    text: str, full: str, familiar: str
) -> None:
    reference = parse_reference(text)
    assert (reference.text, reference.familiar) == (full, familiar)
    assert parse_reference(full) == reference


@pytest.mark.parametrize(
    "text",
    ["", ":", "x:", "Busybox", "a//b", "/a", "a/", "-a", "a-", "a..b", "a___b", "a._b", "x:-y",
     "x:y z", "x y", "x@sha256:12", f"x@md5:{HEX}", HEX, "x:" + "t" * 129, "a/" * 130 + "a",
     "ho_st.de/x", "-host.de/x", "host.de:p/x", "x\n", "x:é", "é", "../x", "x\0"],
)  # fmt: skip
def test_what_docker_refuses_is_a_spec_error_that_shows_it(text: str) -> None:
    with pytest.raises(SpecError, match="invalid reference format"):
        parse_reference(text)
