"""The results as tables for people: medians of the rounds, and how many times better sealpost is, round by round."""

from measure import BOUND, middle

OURS = "sealpost"

# What is shown of a case: key, title, how it is written, and whether more is better.
_LOAD = [
    ("accepted_per_second", "accepted/s", "{:.0f}", "more"),
    ("relayed_per_second", "relayed/s", "{:.0f}", "more"),
    ("cpu_per_thousand", "CPU s per 1,000", "{:.2f}", "less"),
    ("p50_ms", "p50 ms, MAIL to 250", "{:.1f}", "less"),
    ("p99_ms", "p99 ms, MAIL to 250", "{:.1f}", "less"),
]
_SESSIONS = [
    ("sessions_per_second", "sessions/s", "{:.0f}", "more"),
    ("cpu_ms_per_session", "CPU ms each", "{:.2f}", "less"),
]
_MIB = 1 << 20


def write(results):
    """Everything, as Markdown."""
    names = list(results["servers"])
    lines = [_about(results), ""]
    lines += [_row(["", *[f"{name} {results['servers'][name]['version'] or ''}".strip() for name in names]]),
              _row(["---"] * (len(names) + 1))]
    for key, case in results["cases"].items():
        for field, title, form, better in (_SESSIONS if key == "handshake" else _LOAD):
            values = {name: _rounds(results, name, key, field) for name in names}
            marks = {name: _mark(results, name, key) if better == "more" else "" for name in names}
            lines.append(_row([f"{case['title']}: {title}", *_cells(names, values, form, better, marks)]))
    for title, path, form, scale in _once(results):
        values = {name: [_at(results["servers"][name], path, scale)] for name in names}
        if any(value != [None] for value in values.values()):
            lines.append(_row([title, *_cells(names, values, form, "less", {})]))
    return "\n".join([*lines, "", *_notes(results)])


def sealpost_failed(results):
    """Whether our own relay lost, doubled or refused something, or did not do a job."""
    ours = results["servers"].get(OURS)
    if ours is None:
        return False
    wrong = [told for told in _loads(ours) if told.get("lost") or told.get("duplicates") or told["not_accepted"]]
    return bool(ours["unavailable"] or ours["faults"] or wrong)


def _about(results):
    machine = results["machine"]
    return (f"{results['date']}, commit {results['commit']}; {machine['cores']} cores ({machine['cpu']}), {machine['memory_mib']} MiB, "
            f"Linux {machine['kernel']}; medians of {results['plan']['rounds']} round(s)")


def _once(results):
    idle = results["plan"]["idle"]
    yield f"memory, {idle} idle sessions: MiB", ["starts_and_memory", "held"], "{:.1f}", _MIB
    yield "memory of one of them: KiB", ["starts_and_memory", "per_session"], "{:.1f}", 1024
    yield "memory at rest: MiB", ["starts_and_memory", "rest"], "{:.1f}", _MIB
    upload = results["plan"]["upload"]
    yield (f"memory, {upload['sessions']} sessions, each {upload['sent'] >> 20} MiB into a large message: MiB",
           ["large_messages_at_once", "most"], "{:.1f}", _MIB)
    yield "start to greeting, empty queue: ms", ["starts_and_memory", "start_ms"], "{:.0f}", 1
    for key, size in (("many", "4 KB"), ("large", "75 KB")):
        yield f"octets written per octet, {size}", ["octets_written", key, "written_per_octet"], "{:.2f}", 1
        yield f"syncs per message, {size}, 20 connections", ["syncs_counted", key, "syncs_per_message"], "{:.2f}", 1
    yield f"round trips per message, upstream {results['plan']['delay_ms']} ms away, one connection", ["upstream_far_away", "round_trips"], "{:.2f}", 1


def _cells(names, values, form, better, marks):
    ours = values.get(OURS, [])
    for name in names:
        value = middle(values[name])
        if value is None:
            yield "-"
            continue
        text = form.format(value) + marks.get(name, "")
        ratio = middle([_better(mine, theirs, better) for mine, theirs in zip(ours, values[name])])
        yield text if name == OURS or ratio is None else f"{text} ({ratio:.2g} x)"


def _better(ours, theirs, better):
    """How many times better ours is."""
    if not ours or not theirs:
        return None
    return ours / theirs if better == "more" else theirs / ours


def _rounds(results, name, key, field):
    return [(told.get(key) or {}).get(field) for told in results["servers"][name]["rounds"]]


def _mark(results, name, key):
    """Whether the machine was the limit: by our own three programs, or with all that else ran on it."""
    ours, all_of_it = (_share(results, name, key, others) for others in (False, True))
    if ours is None:
        return ""
    return "\\*" if ours > BOUND else "†" if all_of_it > BOUND else ""


def _share(results, name, key, others):
    told = [one.get(key) for one in results["servers"][name]["rounds"]]
    return middle([one["share"] + (one["others_share"] if others else 0) for one in told if one])


def _at(told, path, scale):
    for key in path:
        told = (told or {}).get(key)
    return None if told is None else told / scale


def _loads(told):
    return [measured for one in told["rounds"] for measured in one.values() if measured]


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _notes(results):
    if results.get("ended_early"):
        yield "**It was ended early**: what is missing was not measured."
    yield "In brackets: how many times better sealpost is, the median of the rounds; below 1 the peer is better."
    marks = {_mark(results, name, key) for name in results["servers"] for key in results["cases"]}
    if "\\*" in marks:
        yield f"\\* relay, load and sink used over {BOUND:.0%} of the cores: the machine is measured, not the relay."
    if "†" in marks:
        yield f"† they and whoever else worked on the machine used over {BOUND:.0%} of the cores: the rate is a lower bound; CPU and ratios count."
    others = middle([measured["others_share"] for told in results["servers"].values() for measured in _loads(told)])
    if others is not None:
        yield f"Others used {others:.0%} of the cores meanwhile (median)."
    for name, told in results["servers"].items():
        if told["unavailable"]:
            yield f"{name} takes no part: {told['unavailable']}"
        for fault in told["faults"]:
            yield f"{name} could not do a job: {fault}"
        for word in ("lost", "duplicates", "not_accepted"):
            count = sum(measured.get(word) or 0 for measured in _loads(told))
            if count:
                yield f"{name}: {count} messages {word.replace('_', ' ')}."
