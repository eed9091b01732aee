"""Ports of a devnet."""

from __future__ import annotations

from docklock.chain.devnet import hold_ports


def test_a_port_that_one_devnet_holds_no_other_takes_before_it_ends() -> None:
    """Its validators bind it only later."""
    with hold_ports(3) as first, hold_ports(3) as second:
        assert len({*first, *second}) == 6
