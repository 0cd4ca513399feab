// The panel draws the `snapshot` trait and sends {action} messages. Everything that comes from
// outside is set as text, never as HTML. Elements are made once and changed in place, so that
// focus and screen readers are not disturbed by a tick.

const number = new Intl.NumberFormat("en-US");
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const MOVING = ["preparing", "submitting", "running", "collecting"];

const QUESTIONS = {
  cancel: {
    text: () => "Cancel this batch? Rows already done are still collected.",
    yes: "Cancel batch",
    no: "Keep running",
  },
  stop: {
    text: () => "Send nothing more? The answers of the sample stay.",
    yes: "Send nothing more",
    no: "Decide later",
  },
  finish: {
    text: () => "Cancel what is not back, collect it, and ask the rest now at full price?",
    yes: "Finish in real time",
    no: "Keep waiting",
  },
  retry: {
    text: (s) => {
      if (!isAgain(s)) return `Send ${rows(s.retryable)} that were never sent?`;
      const again = `Send ${rows(s.retryable)} again?`;
      if (!s.doubtful) return `${again} They were not billed.`;
      return `${again} ${number.format(s.doubtful)} may have been billed and would be paid again.`;
    },
    yes: (s) => (isAgain(s) ? (s.doubtful ? "Send all again" : "Send again") : "Send"),
    // The cheaper choice, where there is one.
    less: (s) =>
      s.doubtful && s.doubtful < s.retryable
        ? `Only the ${number.format(s.retryable - s.doubtful)} not billed`
        : "",
    no: "Not now",
  },
};

/** Whether a retry sends anything that was sent before. */
function isAgain(s) {
  return s.retryable > (s.unsent ?? 0);
}

function h(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function button(label, className, onClick) {
  const element = h("button", className, label);
  element.type = "button";
  element.addEventListener("click", onClick);
  return element;
}

function rows(n) {
  return n === 1 ? "1 row" : `${number.format(n)} rows`;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) {
    const minutes = String(Math.floor((whole % 3600) / 60)).padStart(2, "0");
    return `${Math.floor(whole / 3600)} h ${minutes} min`;
  }
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function about(usd) {
  const text = money(usd);
  return text.startsWith("under") ? text : `about ${text}`;
}

function money(usd) {
  if (usd < 0) return `-${money(-usd)}`;
  if (usd > 0 && usd < 0.0001) return "under $0.0001";
  const digits = usd > 0 && usd < 0.1 ? 4 : 2;
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return `$${usd.toLocaleString("en-US", options)}`;
}

/** Setting equal text again would make a screen reader speak and a selection vanish. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

function reasons(outcomes) {
  const apart = ["ok", "skipped", "cancelled"]; // they are counted by themselves
  const kinds = Object.keys(outcomes).filter((kind) => !apart.includes(kind));
  if (kinds.every((kind) => kind === "failed")) return "";
  return ` (${kinds.map((kind) => `${number.format(outcomes[kind])} ${kind}`).join(", ")})`;
}

function table(title, names, records) {
  if (!records.length) return [];
  const used = names.map((_, i) => records.some((record) => record[i]));
  const pick = (cells, tag) =>
    cells.flatMap((cell, i) => (used[i] ? [h(tag, cell.length > 24 ? "" : "llmb-short", cell)] : []));
  const head = h("tr", "", ...pick(names, "th"));
  for (const cell of head.children) cell.scope = "col";
  const body = records.map((record) => h("tr", "", ...pick(record, "td")));
  const scroll = h("div", "llmb-scroll", h("table", "", h("thead", "", head), h("tbody", "", ...body)));
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", title);
  return [h("section", "", h("h4", "", title), scroll)];
}

function details(s) {
  const sections = [
    ...errorKinds(s.errors),
    ...table(
      "Sample of answers",
      ["row", "prompt", "answer"],
      s.samples.map((x) => [number.format(x.row), x.prompt, x.answer]),
    ),
    ...table(
      "Jobs",
      ["job", "model", "rows", "state", "provider’s id", "error"],
      s.jobs.map((j) => [j.id, j.model, number.format(j.rows), j.state, j.remote_id, j.error]),
    ),
    ...options(s.options),
  ];
  return sections.length ? sections : [h("p", "llmb-muted", "Nothing to show yet.")];
}

function options(typed) {
  if (!typed) return [];
  return [h("section", "", h("h4", "", "Options"), h("p", "", h("code", "", typed)))];
}

function errorKinds(errors) {
  if (!errors.length) return [];
  const items = errors.map((e) => {
    const item = h("li", "", h("strong", "", e.kind), ` · ${rows(e.rows)}`);
    if (e.example) item.append(h("div", "llmb-example", e.example));
    if (e.remedy) item.append(h("div", "llmb-remedy", e.remedy));
    return item;
  });
  return [h("section", "", h("h4", "", "Errors"), h("ul", "llmb-errors", ...items))];
}

function render({ model, el }) {
  const id = `llmb-${Math.random().toString(36).slice(2)}`;
  const title = h("strong", "llmb-title");
  const chip = h("span", "llmb-chip");
  const simulated = h("span", "llmb-simulated", "simulated");
  const dot = h("span", "llmb-dot");
  dot.setAttribute("aria-hidden", "true");
  const words = h("span", "llmb-words");
  const time = h("span");
  const cost = h("span");
  const state = h("span", "llmb-state", dot, words);
  const meters = h("span", "llmb-meters", time, cost);
  const head = h("div", "llmb-head", title, chip, simulated, state, meters);

  const segments = ["ok", "cut", "failed", "cancelled", "progress", "progress-failed"].map((kind) =>
    h("div", `llmb-seg llmb-seg-${kind}`),
  );
  const bar = h("div", "llmb-bar", ...segments);
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");

  const counts = h("span", "llmb-counts");
  const safe = h("span", "llmb-safe", "safe to close");
  const kept = h("span", "llmb-kept llmb-muted");
  const facts = h("div", "llmb-facts", counts, safe, kept);

  const cancel = button("Cancel", "llmb-button", () => ask("cancel"));
  const choices = {
    send: button("Send the rest", "llmb-button", () => send("send")),
    stop: button("Stop", "llmb-button", () => ask("stop")),
    finish: button("Finish in real time", "llmb-button", () => ask("finish")),
    keep: button("Let it run", "llmb-button", () => send("keep")),
  };
  const retry = button("Retry failed", "llmb-button", () => ask("retry"));
  const refresh = button("Refresh", "llmb-button", () => send("refresh"));
  const more = button("Details", "llmb-button llmb-more", () => toggle());
  more.setAttribute("aria-controls", id);
  more.setAttribute("aria-expanded", "false");
  const buttons = h(
    "div", "llmb-buttons", ...Object.values(choices), cancel, retry, refresh, more,
  );

  const question = h("span", "llmb-question-text");
  const yes = button("", "llmb-button llmb-danger", () => answer(true));
  const less = button("", "llmb-button", () => answer(true, "unbilled"));
  const no = button("", "llmb-button", () => answer(false));
  const confirm = h("div", "llmb-confirm", question, yes, less, no);
  confirm.setAttribute("role", "group");
  confirm.hidden = true;
  confirm.addEventListener("keydown", (event) => {
    // The notebook would take Escape as its own command.
    event.stopPropagation();
    if (event.key === "Escape") answer(false);
  });

  const question_ = h("div", "llmb-notice llmb-question");
  const notice = h("div", "llmb-notice");
  const drawer = h("div", "llmb-details");
  drawer.id = id;
  drawer.hidden = true;
  const spoken = h("span", "llmb-spoken");
  spoken.setAttribute("role", "status");
  spoken.setAttribute("aria-live", "polite");

  const foot = h("div", "llmb-foot", facts, buttons, confirm);
  // Two generations of MathJax are told that a price is no formula.
  const card = h("div", "llmb-panel mathjax_ignore tex2jax_ignore", head, bar, foot, question_, notice, drawer, spoken);
  card.setAttribute("role", "group");
  el.append(card);

  let s = model.get("snapshot");
  let lost = false;
  let receivedAt = Date.now();
  let asked = null;
  let pressed = null; // the button whose effect no snapshot has shown yet,
  let pressedAt = 0; // for a few seconds: the kernel may be busy or gone
  let drawn = ""; // what the open details show
  let announced = s.state;
  let looked = false; // the details were opened by themselves, once

  function send(action) {
    model.send({ action });
    if (action === "details") return;
    pressed = action;
    pressedAt = Date.now();
    draw();
  }

  function ask(action) {
    asked = action;
    draw();
    no.focus();
  }

  function answer(confirmed, instead = null) {
    const action = asked;
    asked = null;
    if (confirmed) send(instead ?? (action === "stop" ? "cancel" : action));
    else draw();
    const origin = { cancel, retry, finish: choices.finish, stop: choices.stop }[action];
    (origin.hidden || origin.disabled ? more : origin).focus();
  }

  function toggle() {
    drawer.hidden = !drawer.hidden;
    more.setAttribute("aria-expanded", String(!drawer.hidden));
    if (!drawer.hidden) send("details");
    draw();
  }

  function tick() {
    if (lost) return;
    const past = (Date.now() - receivedAt) / 1000;
    const moving = !s.finished && s.state !== "draft";
    const parts = s.state === "draft" ? [] : [duration(s.elapsed + (moving ? past : 0))];
    if (s.remaining !== null && s.remaining > past) {
      parts.push(`about ${duration(s.remaining - past)} left`);
    }
    if (s.deadline !== null && s.deadline > past) {
      parts.push(`deadline in ${duration(s.deadline - past)}`);
    }
    setText(time, parts.join(" · "));
    if (pressed && Date.now() - pressedAt > 5000) {
      pressed = null;
      drawButtons();
    }
  }

  function drawBar() {
    const progress = s.progress ?? 0;
    const cut = s.cut ?? 0;
    const cancelled = Math.min(s.outcomes.cancelled ?? 0, s.failed);
    const running = progress - s.progress_failed;
    const widths = [s.ok - cut, cut, s.failed - cancelled, cancelled, running, s.progress_failed];
    segments.forEach((segment, i) => {
      segment.style.width = s.rows ? `${(100 * widths[i]) / s.rows}%` : "0";
    });
    const ended = s.ok + s.failed + progress;
    const blind = !s.finished && s.progress === null && ended === 0;
    bar.classList.toggle("llmb-blind", blind && MOVING.includes(s.state));
    bar.setAttribute("aria-label", s.title);
    bar.setAttribute("aria-valuemax", String(s.rows));
    if (blind) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(ended));
    bar.setAttribute("aria-valuetext", counts.textContent);
  }

  function drawCounts() {
    const uncollected = (s.progress ?? 0) - s.progress_failed;
    const cancelled = Math.min(s.outcomes.cancelled ?? 0, s.failed);
    const failed = s.failed + s.progress_failed - cancelled;
    const done = s.ok + uncollected;
    const cut = s.cut ? ` (${number.format(s.cut)} cut)` : "";
    const known = s.finished || s.progress !== null || done + failed + cancelled > 0;
    const parts = known
      ? [[done, `of ${number.format(s.rows)} ${s.finished ? "answered" : "done"}${cut}`, "ok"]]
      : [[s.rows, s.rows === 1 ? "row" : "rows", "rows"]];
    if (failed) parts.push([failed, `failed${reasons(s.outcomes)}`, "failed"]);
    if (cancelled) parts.push([cancelled, "cancelled", "unsent"]);
    if (s.unsent) parts.push([s.unsent, "not sent", "unsent"]);
    if (s.outcomes.skipped) parts.push([s.outcomes.skipped, "skipped", "skipped"]);
    const text = parts.map(([n, noun]) => `${number.format(n)} ${noun}`).join(", ");
    if (counts.textContent === text) return;
    counts.replaceChildren(
      ...parts.flatMap(([n, noun, kind], i) => [
        ...(i ? [", "] : []),
        h("span", `llmb-count-${kind}`, h("b", "", number.format(n)), ` ${noun}`),
      ]),
    );
  }

  function drawButtons() {
    const mine = !model.get("read_only"); // else another notebook's kernel drives it
    const active = mine && !s.finished && s.state !== "draft";
    cancel.disabled = s.cancelling || pressed === "cancel";
    setText(cancel, cancel.disabled ? "Cancelling…" : "Cancel");
    cancel.hidden = !active || s.choices.includes("stop");
    for (const [name, element] of Object.entries(choices)) {
      element.hidden = !active || !s.choices.includes(name);
      element.disabled = pressed === (name === "stop" ? "cancel" : name);
    }
    setText(retry, isAgain(s) ? "Retry failed" : "Send the rest");
    retry.hidden = !(mine && s.finished && s.retryable);
    retry.disabled = pressed === "retry" || pressed === "unbilled";
    refresh.hidden = !active || s.state === "preparing";
    refresh.disabled = pressed === "refresh";
    if (["cancel", "stop"].includes(asked) && (!active || s.cancelling)) asked = null;
    if (asked === "retry" && retry.hidden) asked = null;
    confirm.hidden = asked === null;
    buttons.hidden = asked !== null;
    if (asked !== null) {
      setText(question, QUESTIONS[asked].text(s));
      const label = QUESTIONS[asked].yes;
      setText(yes, typeof label === "function" ? label(s) : label);
      const cheaper = QUESTIONS[asked].less?.(s) ?? "";
      setText(less, cheaper);
      less.hidden = !cheaper;
      setText(no, QUESTIONS[asked].no);
      confirm.setAttribute("aria-label", question.textContent);
    }
  }

  function drawDetails() {
    if (drawer.hidden) return;
    const content = JSON.stringify([s.errors, s.samples, s.jobs]);
    if (content === drawn) return;
    drawn = content;
    drawer.replaceChildren(...details(s));
  }

  function draw() {
    card.dataset.state = s.state;
    card.setAttribute("aria-label", `LLM batch ${s.title}`);
    setText(title, s.title);
    setText(chip, s.model);
    simulated.hidden = !s.simulated;
    setText(words, s.words);
    drawCounts();
    const spent = [];
    if (s.cost !== null) {
      const open = s.expected !== null && s.waiting > 0;
      spent.push(money(s.cost) + (open ? ` of ${about(s.expected)}` : ""));
    } else if (s.expected !== null) {
      if (!s.guessed) {
        spent.push(about(s.expected));
        if (s.ceiling !== null) spent.push(`at most ${money(s.ceiling)}`);
      } else if (s.ceiling === null) {
        spent.push(`${money(s.expected)} is a guess, no upper bound`);
      } else spent.push(`between ${money(s.expected)} (a guess) and ${money(s.ceiling)}`);
    }
    else if (s.unpriced) spent.push("price not known");
    if (s.saved) spent.push(`saved ${money(s.saved)}`);
    if (s.cached !== null) spent.push(`${Math.round(100 * s.cached)} % of the input cached`);
    if (s.saved_cache > 0) spent.push(`caching saved ${money(s.saved_cache)}`);
    if (s.saved_reuse) spent.push(`reuse saved ${money(s.saved_reuse)}`);
    setText(cost, spent.join(", "));
    safe.hidden = !s.safe_to_close || s.finished;
    const until = s.keep_until === null ? "" : Math.abs(s.keep_until) < 8e12 ? day.format(s.keep_until * 1000) : "unknown";
    setText(kept, until && `available until ${until}`);
    setText(question_, s.question);
    setText(notice, s.notice);
    // A sample is there to be looked at.
    if (s.choices.includes("send") && !looked) {
      looked = true;
      if (drawer.hidden) toggle();
    }
    drawBar();
    drawButtons();
    drawDetails();
    tick();
    if (s.state !== announced) {
      announced = s.state;
      spoken.textContent = `${s.title}: ${s.words}`;
    }
  }

  // The kernel is gone or starts anew: this is the last picture, and nobody listens to the buttons.
  function onLost() {
    if (s.finished) return;
    lost = true;
    card.dataset.state = "draft"; // grey, and nothing moves
    buttons.hidden = confirm.hidden = safe.hidden = true;
    setText(words, ["the kernel was restarted or lost", s.alone].filter(Boolean).join("; "));
    setText(notice, "%load_ext jupyter_llm_batch shows it again (simulated: %llm_batch simulator)");
    setText(time, "");
    spoken.textContent = `${s.title}: ${words.textContent}`;
  }

  function onSnapshot() {
    s = model.get("snapshot");
    lost = false;
    receivedAt = Date.now();
    pressed = null;
    draw();
  }

  model.on("change:snapshot", onSnapshot);
  model.on("comm_live_update", onLost);
  const timer = setInterval(tick, 1000);
  draw();
  return () => {
    clearInterval(timer);
    model.off("change:snapshot", onSnapshot);
    model.off("comm_live_update", onLost);
  };
}

export default { render };
