"""The results as tables for people: medians of the rounds, and how many times better sealpost is, round by round."""

from measure import BOUND, REFUSED, WRONG, middle
from plan import CLIENTS, STRANGERS
from servers import FAMILIES

OURS = "sealpost"

# What is shown of a case: key, title, how it is written, and whether more is better.
_LOAD = [
    ("cpu_per_thousand", "CPU s per 1,000", "{:.2f}", "less"),
    ("accepted_per_second", "accepted/s", "{:.0f}", "more"),
    ("relayed_per_second", "relayed/s meanwhile", "{:.0f}", "more"),
    ("relayed_to_the_last_per_second", "relayed/s until the last", "{:.0f}", "more"),
    ("waiting", "waiting at the end of the time", "{:.0f}", None),
    ("p50_ms", "p50 ms, MAIL to 250", "{:.1f}", "less"),
    ("p99_ms", "p99 ms, MAIL to 250", "{:.1f}", "less"),
]
_SESSIONS = [
    ("cpu_ms_per_session", "CPU ms each", "{:.2f}", "less"),
    ("sessions_per_second", "sessions/s", "{:.0f}", "more"),
]
_MIB = 1 << 20
# Figures that are no merit.
_PLAIN = {"octets", "accepted", "ratio", "few", "many"}
# Loads without messages.
_VISITS = {"handshake", "cold"}
# What must be nothing, and how it is told.
_TOLD = {"lost": "messages lost", "duplicates": "messages came twice", "changed": "messages changed on the way", "strange": "messages came that no load sent",
         "not_accepted": "messages not accepted", "broken": "sessions broke"}


def write(results):
    """Everything, as Markdown."""
    names = list(results["servers"])
    lines = [_about(results), ""]
    lines += [_row(["", *[f"{name} {results['servers'][name]['version'] or ''}".strip() for name in names]]),
              _row(["---"] * (len(names) + 1))]
    for key, case in results["cases"].items():
        verdicts = {name: _verdict([told.get(key) for told in results["servers"][name]["rounds"]]) for name in names}
        for field, title, form, better in (_SESSIONS if key in _VISITS else _LOAD):
            values = {name: _rounds(results, name, key, field) for name in names}
            # A busy machine fakes what lasts as it fakes what goes by the second.
            marks = {name: _mark(results, name, key) if better == "more" or field.endswith("_ms") else "" for name in names}
            lines.append(_row([f"{case['title']}: {title}", *_cells(names, values, form, better, marks, verdicts)]))
    for title, path, form, scale in _once(results):
        values = {name: [_at(results["servers"][name], path, scale)] for name in names}
        verdicts = {name: _verdict([results["servers"][name].get(path[0])]) for name in names}
        if any(value != [None] for value in values.values()):
            lines.append(_row([title, *_cells(names, values, form, None if path[-1] in _PLAIN else "less", {}, verdicts)]))
    return "\n".join([*lines, "", *_notes(results)])


def _verdict(measured):
    """`wrong` where something that was sent was lost, came twice, changed, or was sent by nobody; `refused` where something was not accepted, or a
    session broke: of such a row no ratio is told."""
    found = [one for inner in measured for one in _within(inner)]
    for word, counts in (("wrong", WRONG), ("refused", REFUSED)):
        if any(one.get(count) for one in found for count in counts):
            return word
    return ""


def _within(measured):
    """A measurement, and those inside of it."""
    if not isinstance(measured, dict):
        return []
    return [measured, *(one for inner in measured.values() for one in _within(inner))]


def sealpost_failed(results):
    """Whether our own relay lost, doubled, changed or refused something, broke a session, or did not do a job."""
    ours = results["servers"].get(OURS)
    if ours is None:
        return False
    return bool(ours["unavailable"] or ours["faults"] or _verdict(_all(ours)))


def _about(results):
    machine = results["machine"]
    return (f"{results['date']}, {_program(results)}; {machine['cores']} cores ({machine['cpu']}), {machine['memory_mib']} MiB, "
            f"Linux {machine['kernel']}; medians of {results['plan']['rounds']} round(s), each load measured for "
            f"{results['plan']['seconds']:g} s after {results['plan']['warmup']:g} s; load average {results['load_average_before'][0]:.2f} before")


def _program(results):
    """What was measured: only of what was built for it the commit is known."""
    commit = {"now": f"commit {results['commit']}; ", "here": f"commit {results['commit'].removesuffix(' with changes')}, or with changes; ", "elsewhere": ""}[results["built"]]
    return f"{commit}program of {results['program']}" + (", built elsewhere" if results["built"] == "elsewhere" else "")


def _once(results):
    plan = results["plan"]
    for row, count in (("idle", plan["idle"]), ("idle10000", plan["idle_many"])):
        yield f"memory, {count} idle sessions: MiB", [row, "held"], "{:.1f}", _MIB
        yield f"memory of one of {count} idle sessions: KiB", [row, "per_session"], "{:.1f}", 1024
    yield "memory at rest: MiB", ["idle", "rest"], "{:.1f}", _MIB
    yield f"{plan['upload']['sessions']} large messages at once: the most memory, MiB", ["upload", "most"], "{:.1f}", _MIB
    yield "all of them in their middle: memory, MiB", ["upload", "held"], "{:.1f}", _MIB
    yield "octets of each of them, million", ["upload", "octets"], "{:.1f}", 1e6
    yield "of them accepted", ["upload", "accepted"], "{:.0f}", 1
    yield "start to greeting, empty queue: ms", ["start", "ms"], "{:.0f}", 1
    for key, size in (("many", "4 KB"), ("large", "75 KB")):
        yield f"octets written per octet, {size}", ["written", key, "written_per_octet"], "{:.2f}", 1
        yield f"syncs per message, {size}, 20 connections", ["syncs", key, "syncs_per_message"], "{:.2f}", 1
    for key, what in (("handshake", "session, opened and closed"), ("many", "message, 4 KB, 100 a connection")):
        yield f"allocations per {what}", ["allocations", key, "each"], "{:.0f}", 1
    yield f"round trips per message, upstream {plan['delay_ms']} ms away, one connection", ["far", "round_trips"], "{:.2f}", 1
    for row, few, many in (("identities", f"{STRANGERS:,}", "identities"), ("revoked", "ten", "revoked serials"), ("queued", "ten", "waiting messages")):
        for load, cost in (("warm", f"a session, warm ({CLIENTS} clients)"), ("cold", f"a session, cold ({STRANGERS:,} clients)"), ("message", "a message")):
            yield f"CPU ms of {cost}, {few} {many}", [row, load, "few"], "{:.2f}", 1
            yield f"the same with {plan['million']:,}: times", [row, load, "ratio"], "{:.2f}", 1
        yield f"octets written for a message, {plan['million']:,} {many} against {few}: times", [row, "written", "ratio"], "{:.2f}", 1


def _cells(names, values, form, better, marks, verdicts):
    ours, best = values.get(OURS, []), _best(values, better)
    for name in names:
        value = middle(values[name])
        if value is None:
            yield "-"
            continue
        text = form.format(value) + marks.get(name, "") + (f" {verdicts[name]}" if verdicts.get(name) else "")
        comparable = name in best and name != OURS and not verdicts.get(name) and not verdicts.get(OURS)
        ratio = middle([_better(mine, theirs, better) for mine, theirs in zip(ours, values[name])]) if comparable else None
        yield text if ratio is None else f"{text} ({times(ratio)} x)"


def _best(values, better):
    """Of each family the one whose figure is best: nobody is set beside a program in its worse setting."""
    if better is None:
        return set()
    found = {}
    for name, those in values.items():
        value, family = middle(those), FAMILIES.get(name, name)
        if value is not None and (family not in found or (value > found[family][0] if better == "more" else value < found[family][0])):
            found[family] = value, name
    return {name for _, name in found.values()}


def _better(ours, theirs, better):
    """How many times better ours is."""
    if not ours or not theirs:
        return None
    return ours / theirs if better == "more" else theirs / ours


def _rounds(results, name, key, field):
    return [(told.get(key) or {}).get(field) for told in results["servers"][name]["rounds"]]


def _mark(results, name, key):
    """Whether the machine was the limit, by our own three programs, or with all that else ran on it; and whether load or sink was."""
    shares = {word: _share(results, name, key, words) for word, words in (
        ("ours", ["share"]), ("all", ["share", "others_share"]), ("load", ["load_wanted"]), ("sink", ["sink_wanted"]))}
    if shares["ours"] is None:
        return ""
    machine = "\\*" if shares["ours"] > BOUND else "†" if shares["all"] > BOUND else ""
    return machine + ("‡" if max(shares["load"], shares["sink"]) > BOUND else "")


def _share(results, name, key, words):
    told = [one.get(key) for one in results["servers"][name]["rounds"]]
    return middle([sum(one[word] for word in words) for one in told if one])


def _at(told, path, scale):
    for key in path:
        told = (told or {}).get(key)
    return None if told is None else told / scale


def _loads(told):
    return [measured for one in told["rounds"] for measured in one.values() if measured]


def _all(told):
    """Every measurement of a server, and those inside of others."""
    rows = [value for value in told.values() if isinstance(value, dict)]
    return [one for measured in (*_loads(told), *rows) for one in _within(measured)]


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _notes(results):
    if results.get("ended_early"):
        yield "**It was ended early**: what is missing was not measured."
    yield "wrong: something that was sent was lost, came twice or changed; refused: something was not accepted, or a session broke. No ratio is told there."
    yield "CPU of a message is what counts; rates are the machine's as much as the server's. Lost: answered 250, and not come within five minutes."
    yield "In brackets: how many times better sealpost is, the median of the rounds; below 1 the peer is better."
    marks = {_mark(results, name, key) for name in results["servers"] for key in results["cases"]}
    if any("\\*" in mark for mark in marks):
        yield f"\\* relay, load and sink used over {BOUND:.0%} of the cores: the machine is measured, not the relay, and a ratio of such a rate says nothing more."
    if any("†" in mark for mark in marks):
        yield f"† they and whoever else worked on the machine used over {BOUND:.0%} of the cores: the rate is a lower bound; CPU and ratios count."
    if any("‡" in mark for mark in marks):
        yield f"‡ load or sink, of one thread each, ran or waited to run over {BOUND:.0%} of the time: it may be they who are measured, not the relay."
    if any(name in FAMILIES for name in results["servers"]):
        yield f"{', '.join(FAMILIES)}: the same program set otherwise, in some rows; sealpost is set beside the better of them in each."
    others = middle([measured["others_share"] for told in results["servers"].values() for measured in _loads(told)])
    if others is not None:
        yield f"Others used {others:.0%} of the cores meanwhile (median)."
    for name, told in results["servers"].items():
        if told["unavailable"]:
            yield f"{name} takes no part: {told['unavailable']}"
        for fault in told["faults"]:
            yield f"{name} could not do a job: {fault}"
        for reason in told.get("not_asked", ()):
            yield f"{name} was not asked: {reason}"
        for word, text in _TOLD.items():
            count = sum(measured.get(word) or 0 for measured in _all(told))
            if count:
                yield f"{name}: {count} {text}."
        for reason in sorted({measured["instead"] for measured in _all(told) if "instead" in measured}):
            yield f"{name}: {reason}"
        anew = sum(measured.get("anew") or 0 for measured in _loads(told))
        if anew:
            yield f"{name}: {anew} connections were opened anew after three seconds without a greeting; its rates hold that wait."
    for note in dict.fromkeys(results["notes"]):
        count = results["notes"].count(note)
        yield note + (f" ({count} times)" if count > 1 else "")


def times(ratio):
    """Two digits that count, and never a power of ten."""
    return f"{ratio:.0f}" if ratio >= 99.5 else f"{ratio:.2g}"
