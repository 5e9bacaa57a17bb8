"""The Celery application: a queue of job ids, nothing else. What a job is, and how it ended, is in the ledger.

A delivery may come twice, late or never: the ledger's claim drops duplicates and the dispatcher sends again what got
lost. So nothing here waits long, retries or stores results.
"""

from functools import lru_cache

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from service.config import Settings, settings

TASK = "radfuse.extract"
QUEUE = "radfuse"
SENTINEL = "radfuse:generation"
ENDED = "radfuse:ended"
CONNECT_SECONDS = 0.5
SOCKET_SECONDS = 5.0
VISIBILITY_SECONDS = 7 * 86_400
HARD_LIMIT_GRACE_SECONDS = 3
TASKS_PER_CHILD = 500
LAST = 9  # of Kombu's priorities on Redis, where 0 goes first: a list of its own, read when the others are empty

BrokerDown = (OperationalError, redis.exceptions.RedisError, OSError)


@lru_cache(maxsize=1)
def app() -> Celery:
    """Return the application, made from this process's settings."""
    return create_app(settings())


def create_app(values: Settings) -> Celery:
    """Build the application."""
    application = Celery("radfuse", broker=values.broker_url, set_as_current=False)
    application.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        # A lost worker's job is given out again by the ledger, which counts attempts; the broker would never stop.
        task_reject_on_worker_lost=False,
        task_soft_time_limit=values.job_seconds,
        task_time_limit=values.job_seconds + HARD_LIMIT_GRACE_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": SOCKET_SECONDS,
            # One try to connect when something is sent, without Kombu's own pauses.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
            "socket_keepalive": not values.broker_url.startswith("redis+socket"),
        },
        worker_concurrency=values.workers,
        worker_prefetch_multiplier=1,
        # A running job ends in the ledger whether or not its message can still be acknowledged: a second delivery
        # finds it done. Killing it when Redis restarts would only waste an attempt.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        worker_max_tasks_per_child=TASKS_PER_CHILD,
        worker_max_memory_per_child=values.worker_memory_bytes // 1024,
        worker_lost_wait=0.5,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_redirect_stdouts=False,
    )
    return application


def publish(queue: Celery, job_id: str, *, patient: bool = False) -> None:
    """Send one job id; a patient one lets every other pass.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached; raised within a second.
    """
    priority = LAST if patient else None
    queue.send_task(TASK, args=[job_id], queue=QUEUE, retry=False, ignore_result=True, priority=priority)


def announce_end(client: redis.Redis, job_id: str) -> None:
    """Tell whoever waits that a job has ended. A hint: those who miss it look at the ledger a little later.

    Raises:
        redis.exceptions.RedisError: the broker cannot be reached.
    """
    client.publish(ENDED, job_id)


def plain_url(url: str) -> str:
    """Return the broker's URL as Redis' own client writes it."""
    return url.replace("redis+socket://", "unix://", 1)


def connect(url: str) -> redis.Redis:
    """Return a Redis client of the broker, for what Celery does not offer."""
    return redis.Redis.from_url(
        plain_url(url), socket_connect_timeout=CONNECT_SECONDS, socket_timeout=SOCKET_SECONDS, decode_responses=True
    )


def ping(client: redis.Redis) -> bool:
    """Whether the broker answers."""
    try:
        return bool(client.ping())
    except BrokerDown:
        return False


def has_forgotten(client: redis.Redis) -> bool:
    """Whether Redis was flushed or restarted since `remember`: messages may be lost.

    Raises:
        redis.exceptions.RedisError: the broker cannot be reached.
    """
    return bool(client.get(SENTINEL) != _run_id(client))


def remember(client: redis.Redis) -> None:
    """Leave the sign that `has_forgotten` looks for."""
    client.set(SENTINEL, _run_id(client))


def _run_id(client: redis.Redis) -> str:
    return str(client.info("server")["run_id"])
