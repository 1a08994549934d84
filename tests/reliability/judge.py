"""What is found in the histories, and in the ledger of the upstream, after the clients are done."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec

from tests.reliability.upstream import Call, digest

__all__ = ["Trial", "Verdict", "judge"]

History = Sequence[tuple[str, str]]

SAVING = 2.0
"""Seconds in which a reply that has come is saved, where nothing goes wrong."""

LEASE = 6.0
"""Seconds for which a host that cannot renew a turn still has it."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened: replies ``accepted`` by their prompts, histories by session, the upstream's ledger.

    ``kills`` are times by the names of hosts, ``outages`` spans of time without the store; all of the
    machine's monotonic clock. ``refused`` are prompts of which somebody was told that the turn was not to be
    had, or was lost. ``may_lose`` says that the store may lose what it has confirmed, as Redis does
    when a replica takes over.
    """

    accepted: Mapping[str, str]
    histories: Sequence[History]
    ledger: Sequence[Call]
    kills: Mapping[str, Sequence[float]] = msgspec.field(default_factory=dict)
    outages: Sequence[tuple[float, float]] = ()
    refused: Collection[str] = ()
    timeout: float = 60.0
    may_lose: bool = False


class Verdict(msgspec.Struct):
    """The figures, and each violation in words.

    ``paid_in_vain`` counts the replies that were made and never stored, by the reason why.
    """

    turns: int = 0
    lost: int = 0
    doubled: int = 0
    crossed: int = 0
    out_of_order: int = 0
    billed_twice: int = 0
    paid_in_vain: Counter[str] = msgspec.field(default_factory=Counter)
    violations: list[str] = msgspec.field(default_factory=list)


def judge(trial: Trial) -> Verdict:
    """Return what is wrong with the histories and the bills of ``trial``."""
    verdict = Verdict()
    for session, history in enumerate(trial.histories):
        _judge_history(verdict, session, history, trial)
    stored = {text for history in trial.histories for role, text in history if role == "user"}
    for prompt in trial.accepted.keys() - stored:
        verdict.lost += 1
        if not trial.may_lose:
            verdict.violations.append(f"lost: {prompt} was answered and is in no history")
    _judge_bills(verdict, trial)
    return verdict


def _judge_history(verdict: Verdict, session: int, history: History, trial: Trial) -> None:
    seen: set[str] = set()
    last: dict[str, int] = {}
    if len(history) % 2:
        verdict.crossed += 1
        verdict.violations.append(f"crossed: session {session} has {len(history)} messages")
    for at in range(0, len(history) - 1, 2):
        (role, prompt), (answering, reply) = history[at : at + 2]
        verdict.turns += 1
        if prompt in seen:
            verdict.doubled += 1
            verdict.violations.append(f"doubled: {prompt} stands twice in session {session}")
        seen.add(prompt)
        wrong = _wrong_with(prompt, reply, session, history[: at + 1], trial.accepted.get(prompt))
        if (role, answering) != ("user", "assistant") or wrong:
            verdict.crossed += 1
            verdict.violations.append(f"crossed: message {at} of session {session}: {wrong or role}")
        client, _, number = prompt.partition(" n")
        if int(number.split()[0]) <= last.get(client, -1):
            verdict.out_of_order += 1
            verdict.violations.append(f"out of order: {prompt} comes after n{last[client]}")
        last[client] = int(number.split()[0])


def _wrong_with(prompt: str, reply: str, session: int, asked: History, told: str | None) -> str | None:
    """Return what is wrong with a reply to the last message of ``asked``; ``told`` is what its caller got."""
    if not prompt.startswith(f"s{session} "):
        return f"{prompt!r} belongs to another session"
    _, based_on, count, _, answered = reply.split(" ", 4)
    if answered != prompt:
        return f"{prompt!r} is followed by the reply to {answered!r}"
    if (based_on, int(count)) != (digest(asked), len(asked)):
        return f"the reply to {prompt!r} was made for another history, of {count} messages"
    if told is not None and told != reply:
        return f"the caller of {prompt!r} was told {told!r}, stored is {reply!r}"
    return None


def _judge_bills(verdict: Verdict, trial: Trial) -> None:
    texts = [text for history in trial.histories for role, text in history if role == "assistant"]
    replies = {text.split(" ", 1)[0] for text in texts}
    stored = {call.prompt: call for call in trial.ledger if call.id in replies}
    for call in trial.ledger:
        kept = stored.get(call.prompt)
        if call.done is None or kept is call:
            continue
        # Whoever asks has taken the turn and read the history before. Who asks later than it was
        # asked for the reply that is stored would have found that one, or kept it from being stored.
        if call.is_known or (kept and call.asked > kept.asked):
            verdict.billed_twice += 1
            verdict.violations.append(f"billed twice: {call} although there was {kept}")
            continue
        reason = _why_in_vain(call, trial)
        verdict.paid_in_vain[reason] += 1
        if reason == "no reason":
            verdict.violations.append(f"paid in vain, without a reason: {call}")


def _why_in_vain(call: Call, trial: Trial) -> str:
    """Return why a reply that was made has not been stored."""
    assert call.done is not None
    asked, end = call.asked, call.done + SAVING
    if any(asked <= kill <= end for kill in trial.kills.get(call.host, ())):
        return "host killed"
    if any(start <= end and asked <= stop + LEASE for start, stop in trial.outages):
        return "store away"
    if call.done > asked + trial.timeout - 1:
        return "too late"
    if call.prompt in trial.refused:
        return "turn lost"
    return "no reason"
