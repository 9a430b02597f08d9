"""The rows of the comparison with their goals, and the table that they become.

What lives here: which load each row is, what is aimed for, how a row is printed. What does not:
running it (compare.py). A goal is a ratio against RabbitMQ in the same run, or a plain limit.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row. `goal` and `cpu_goal` are ratios: at least, and at most."""

    name: str
    title: str
    arguments: tuple[str, ...] = ()
    is_client: bool = False
    goal: float | None = None
    cpu_goal: float | None = None
    p99_ms_max: float | None = None
    mb_max: float | None = None
    # RabbitMQ may be asked for fewer of a thing; its memory is compared for each.
    rabbitmq_count: int | None = None

    def for_kind(self, kind: str) -> tuple[str, ...]:
        """The arguments for one kind of server."""
        if kind == "rabbitmq" and self.rabbitmq_count:
            return (*self.arguments, "--count", str(self.rabbitmq_count))
        return self.arguments


FLOW = (
    Row("confirm-200", "publish + confirm, window 200, with a consumer acking",
        ("--scenario", "confirm-200"), goal=6, cpu_goal=1 / 10, p99_ms_max=1.5),
    Row("confirm-1000", "publish + confirm, window 1,000",
        ("--scenario", "confirm-1000"), goal=12),
    Row("sync-1", "one synchronous publisher (window 1)",
        ("--scenario", "sync-1"), goal=2.7),
    Row("sync-64", "64 synchronous publishers on 64 connections", ("--scenario", "sync-64")),
    Row("transient", "transient, no confirm, auto-ack", ("--scenario", "transient"), goal=8),
    Row("open-10k", "10,000/s by the clock, confirms, with a consumer (open loop)",
        ("--scenario", "confirm-200", "--rate", "10000")),
    Row("pika-confirm", "unmodified pika, publish with confirms", is_client=True,
        goal=1.0, cpu_goal=1 / 3),
    Row("pika-publish", "unmodified pika, publish", is_client=True, goal=1.0, cpu_goal=1 / 3),
    Row("amqp-publish", "unmodified py-amqp, publish", is_client=True, goal=1.3, cpu_goal=1 / 3),
    Row("amqp-consume", "unmodified py-amqp, consume + ack", is_client=True,
        goal=1.5, cpu_goal=1 / 3),
)

FOOTPRINT = (
    Row("idle-connections", "10,000 idle connections", mb_max=25,
        arguments=("--scenario", "idle-connections", "--count", "10000")),
    Row("queues", "100,000 queues", mb_max=50, rabbitmq_count=10_000,
        arguments=("--scenario", "queues", "--keep")),
)

PLAIN = (("start", "start empty to the first answer", "ms", 20.0),
         ("idle-memory", "memory when idle", "mb", 12.0))


def markdown(summary: dict) -> str:
    """The whole table."""
    lines = ["| workload | RabbitMQ | Potager | ratio | goal | CPU per message | p99 |",
             "|---|---|---|---|---|---|---|"]
    for row in FLOW:
        if row.name in summary:
            lines.append(_flow_line(row, summary[row.name]))
    lines += ["", "| what | RabbitMQ | Potager | goal |", "|---|---|---|---|"]
    for name, title, unit, most in PLAIN:
        if name in summary:
            lines.append(_plain_line(title, unit, most, summary[name]))
    for row in FOOTPRINT:
        if row.name in summary:
            lines.append(_footprint_line(row, summary[row.name]))
    return "\n".join(lines) + "\n"


def _median(figures: dict, name: str) -> float:
    return figures[name]["median"] if name in figures else 0.0


def _mark(is_reached: bool) -> str:
    return "reached" if is_reached else "**missed**"


def _flow_line(row: Row, kinds: dict) -> str:
    theirs, ours = kinds.get("rabbitmq", {}), kinds.get("potager", {})
    ratio = _median(ours, "per_s") / max(_median(theirs, "per_s"), 1e-9)
    cpu = [_median(figures, "server_us") for figures in (theirs, ours)]
    p99 = [_median(figures, "p99_ms") for figures in (theirs, ours)]
    goals = []
    if row.goal:
        goals.append(f"{row.goal:g}x {_mark(ratio >= row.goal)}")
    if row.cpu_goal and cpu[0]:
        goals.append(f"CPU 1/{1 / row.cpu_goal:.0f} {_mark(cpu[1] <= cpu[0] * row.cpu_goal)}")
    if row.p99_ms_max:
        goals.append(f"p99 <= {row.p99_ms_max:g} ms {_mark(p99[1] <= row.p99_ms_max)}")
    late = f"{p99[0]:.1f} / {p99[1]:.2f} ms" if any(p99) else ""
    return (f"| {row.title} | {_speed(theirs)} | {_speed(ours)} | {ratio:.1f}x | "
            f"{', '.join(goals)} | {cpu[0]:.1f} / {cpu[1]:.2f} us | {late} |")


def _speed(figures: dict) -> str:
    if "per_s" not in figures:
        return "-"
    speed = figures["per_s"]
    spread = (speed["most"] - speed["least"]) / max(speed["median"], 1e-9) * 100
    return f"{speed['median']:,.0f}/s ({spread:.0f} %)"


def _plain_line(title: str, unit: str, most: float, kinds: dict) -> str:
    theirs, ours = (_median(kinds.get(kind, {}), unit) for kind in ("rabbitmq", "potager"))
    shown = {"ms": "ms", "mb": "MB"}[unit]
    return (f"| {title} | {theirs:,.0f} {shown} | {ours:,.1f} {shown} | "
            f"<= {most:g} {shown} {_mark(ours <= most)} |")


def _footprint_line(row: Row, kinds: dict) -> str:
    cells = []
    for kind in ("rabbitmq", "potager"):
        figures = kinds.get(kind, {})
        count, each = _median(figures, "count"), _median(figures, "bytes_each")
        cells.append(f"{_median(figures, 'mb'):,.1f} MB for {count:,.0f} ({each:,.0f} B each)")
    ours = _median(kinds.get("potager", {}), "mb")
    goal = f"<= {row.mb_max:g} MB {_mark(ours <= (row.mb_max or 0))}"
    return f"| {row.title} | {cells[0]} | {cells[1]} | {goal} |"
