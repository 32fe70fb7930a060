"""Two runs on one machine sync their weights at once, each over its own socket."""

from __future__ import annotations

import asyncio
import threading
import uuid

import pytest
import torch
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import (
    BucketedWeightReceiver,
    BucketedWeightSender,
)

from mifo_ext.adapters import (
    register,  # noqa: F401 (a run loads it into every process)
    weight_socket,
)
from mifo_ext.adapters.processes import MARK


@pytest.fixture
def handle() -> str:
    return f"ipc:///tmp/mifo-test-{uuid.uuid4().hex[:8]}.sock"


def sender_of(run: str, handle: str, monkeypatch: pytest.MonkeyPatch) -> BucketedWeightSender:
    monkeypatch.setenv(MARK, run)
    return BucketedWeightSender(handle, bucket_size_mb=1, use_shm=True)


def receiver_of(run: str, handle: str, monkeypatch: pytest.MonkeyPatch) -> BucketedWeightReceiver:
    monkeypatch.setenv(MARK, run)
    return BucketedWeightReceiver(zmq_handle=handle, device=torch.device("cpu"), use_shm=True)


def test_a_run_meets_itself_and_no_other(handle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (sender_of(run, handle, monkeypatch) for run in ("/runs/a", "/runs/b"))
    assert first.zmq_handle == receiver_of("/runs/a", handle, monkeypatch).zmq_handle
    assert first.zmq_handle != second.zmq_handle
    monkeypatch.delenv(MARK)
    assert BucketedWeightSender(handle, use_shm=True).zmq_handle == handle


def test_weights_arrive_while_another_run_waits_for_its_own(
    handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run whose receiver never comes keeps its socket bound.
    waiting = sender_of("/runs/waiting", handle, monkeypatch)
    waiting._init_socket()
    sender = sender_of("/runs/syncing", handle, monkeypatch)
    receiver = receiver_of("/runs/syncing", handle, monkeypatch)
    got: dict[str, torch.Tensor] = {}

    def receive() -> None:
        receiver.receive_weights(
            lambda weights, _: got.update({name: value.clone() for name, value in weights})
        )

    def send() -> None:
        asyncio.run(sender.async_send_weights(iter(sent.items())))

    sent = {"w": torch.arange(8.0)}
    # Daemons: what waits for the wrong socket waits for ever.
    both = [threading.Thread(target=end, daemon=True) for end in (receive, send)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(timeout=20)

    assert not any(thread.is_alive() for thread in both)
    assert torch.equal(got["w"], sent["w"])
    waiting.socket.close(linger=0)


def test_the_address_stays_short_enough_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "/a/run/folder/" * 30)
    verls = "ipc:///tmp/rl-colocate-zmq-ffffffff-replica-999-rank-99.sock"
    assert len(weight_socket.of_this_run(verls)) - len("ipc://") <= 107
