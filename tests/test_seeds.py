"""What the idea began with, on a real server and with real processes."""

from __future__ import annotations

import signal

import pytest

from django_redislock import LeaseLost, LockBusy, LockNotHeld, WaitTimeout, lock
from tests.flows import client_of, elsewhere, is_free, peer
from tests.testapp.models import Account

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("real_redis")]

HOLD = """
from django_redislock import lock
with lock("a", ttl={ttl}):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
sys.stdin.readline()
"""


def drop(key: str) -> None:
    """Let a lock's time run out at once."""
    client = client_of("real")
    assert client.pexpireat(next(client.scan_iter(f"*:lock:{key}")), 1)


class TestLockTwiceInAThread:
    def test_it_is_freed_only_at_the_second_unlock(self):
        guard = lock("a")
        assert guard.acquire() is guard.acquire()
        guard.release()
        assert not is_free("a")
        guard.release()
        assert is_free("a")

    def test_a_third_unlock_is_an_error(self):
        guard = lock("a")
        guard.acquire()
        guard.release()
        with pytest.raises(LockNotHeld):
            guard.release()


class TestTwoProcesses:
    def test_the_other_gets_it_within_its_wait(self):
        with peer(HOLD.format(ttl=30)) as holder:
            assert holder.hear() == "held"
            with pytest.raises(LockBusy, match=f"pid {holder.pid}"):
                lock("a", nowait=True).acquire()
            holder.tell()
            with lock("a", wait=30):
                assert holder.hear() == "released"

    def test_the_other_is_told_when_its_wait_is_over(self):
        with peer(HOLD.format(ttl=30)) as holder:
            assert holder.hear() == "held"
            with pytest.raises(WaitTimeout, match=rf"pid {holder.pid} .*waited 0\.1 s"):
                lock("a", wait=0.1).acquire()


class TestAHolderThatIsKilled:
    def test_the_key_is_freed_by_expiry(self):
        with peer(HOLD.format(ttl=1)) as holder:
            assert holder.hear() == "held"
            holder.send(signal.SIGKILL)
            assert holder.end() == -signal.SIGKILL
            assert not is_free("a")
            with lock("a", wait=30) as lease:
                assert lease.state == "held"

    def test_a_holder_that_slept_too_long_is_told(self):
        with peer(
            "from django_redislock import LeaseLost\ntry:"
            + HOLD.format(ttl=0.5).replace("\n", "\n  ")
            + """
except LeaseLost as lost:
    print("told", flush=True)"""
        ) as holder:
            assert holder.hear() == "held"
            holder.send(signal.SIGSTOP)
            with lock("a", wait=30):
                holder.send(signal.SIGCONT)
                holder.tell()
                assert holder.hear() == "told"
                assert not is_free("a")


class TestOnlyTheOwnerReleases:
    def test_a_late_release_leaves_the_new_owner_alone(self):
        late, owner = lock("a"), lock("a")
        late.acquire()
        drop("a")
        lease = elsewhere(owner.acquire)
        with pytest.raises(LockNotHeld, match="another holds it now"):
            late.release()
        info = lock("a").info()
        assert info is not None
        assert info.fence == lease.fence

    def test_a_late_end_of_a_block_leaves_the_new_owner_alone(self):
        owner = lock("a")
        with pytest.raises(LeaseLost), lock("a"):
            drop("a")
            elsewhere(owner.acquire)
        assert not is_free("a")


class TestUniqueValues:
    def test_each_acquisition_has_its_own_with_a_growing_number(self):
        leases = []
        for _ in range(100):
            with lock("a") as lease:
                leases.append(lease)
        assert len({lease.token for lease in leases}) == 100
        fences = [lease.fence for lease in leases]
        assert fences == sorted(set(fences))

    def test_the_number_grows_although_the_server_forgot_everything(self):
        with lock("a") as before:
            pass
        client_of("real").flushall()
        with lock("a") as after:
            assert after.fence > before.fence

    def test_a_b_a_is_told_apart(self):
        first, again = lock("a"), lock("a")
        stale = first.acquire()
        drop("a")
        elsewhere(lambda: lock("a").acquire())
        drop("a")
        fresh = elsewhere(again.acquire)
        assert fresh.token != stale.token
        assert fresh.fence > stale.fence + 1
        with pytest.raises(LockNotHeld):
            stale.extend()
        with pytest.raises(LockNotHeld):
            first.release()
        assert not is_free("a")


WORK = """
from django_redislock import locked
from tests.testapp.models import Account
sys.stdin.readline()
for _ in range(25):
    with locked(Account.objects.using({using!r}), {pk}, wait=60) as account:
        account.balance += 1
        account.save()
print("done", flush=True)
"""


@pytest.mark.django_db(transaction=True)
class TestTheMainJob:
    def test_no_update_of_many_processes_is_lost(self, db_alias):
        account = Account.objects.using(db_alias).create(balance=0)
        script = WORK.format(using=db_alias, pk=account.pk)
        with peer(script) as one, peer(script) as two, peer(script) as three:
            workers = [one, two, three]
            for worker in workers:
                worker.tell()
            assert [worker.hear() for worker in workers] == ["done"] * 3
        account.refresh_from_db()
        assert account.balance == 75
