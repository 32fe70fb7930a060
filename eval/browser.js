"use strict";
// The browser of samples. Texts of models and data files reach the page only through `textContent`
// and text nodes, never as markup.
(() => {
  const PAGE = 50;
  const MARKS_AT_MOST = 500;
  const { samples } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const list = byId("list");
  const detail = byId("detail");
  const filters = {
    run: byId("filter-run"),
    benchmark: byId("filter-benchmark"),
    verdict: byId("filter-verdict"),
    text: byId("filter-text"),
    truncated: byId("filter-truncated"),
  };
  const severalRuns = new Set(samples.map((sample) => sample.run)).size > 1;
  const fragments = samples.map((sample) =>
    [sample.run, sample.benchmark, sample.problem, sample.sample].map(encodeURIComponent).join("/"),
  );
  const byFragment = new Map(fragments.map((fragment, index) => [fragment, index]));
  let searched = null; // lower-case texts, made at the first search
  let found = []; // indices of the samples that pass the filters
  let place = 0; // of the chosen sample in `found`

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function fillSelect(select, values) {
    for (const value of new Set(values)) {
      const option = element("option", value);
      option.value = value;
      select.append(option);
    }
  }

  function passes(sample, index, words) {
    return (
      (!filters.run.value || sample.run === filters.run.value) &&
      (!filters.benchmark.value || sample.benchmark === filters.benchmark.value) &&
      (!filters.verdict.value || sample.verdict === filters.verdict.value) &&
      (!filters.truncated.checked || sample.finish === "length") &&
      (!words || searched[index].includes(words))
    );
  }

  function wanted() {
    return filters.text.value.trim().toLowerCase();
  }

  function filter(keep) {
    const words = wanted();
    if (words && searched === null) {
      searched = samples.map((sample) =>
        `${sample.problem}\n${sample.question}\n${sample.response}`.toLowerCase(),
      );
    }
    found = [];
    samples.forEach((sample, index) => {
      if (passes(sample, index, words)) found.push(index);
    });
    place = Math.max(found.indexOf(keep), 0);
    showAll();
  }

  function showAll() {
    const noun = samples.length === 1 ? "sample" : "samples";
    byId("status").textContent =
      `${found.length.toLocaleString("en")} of ${samples.length.toLocaleString("en")} ${noun}`;
    showList();
    showDetail();
  }

  function showList() {
    const first = Math.floor(place / PAGE) * PAGE;
    const shown = found.slice(first, first + PAGE);
    list.replaceChildren(...shown.map((index, i) => option(index, first + i)));
    const pages = Math.max(Math.ceil(found.length / PAGE), 1);
    byId("page-number").textContent = `page ${first / PAGE + 1} of ${pages}`;
    byId("page-before").disabled = first === 0;
    byId("page-after").disabled = first + PAGE >= found.length;
    markChosen();
  }

  function option(index, at) {
    const sample = samples[index];
    const made = element("div", undefined, "option");
    made.id = `option-${at}`;
    made.setAttribute("role", "option");
    made.append(
      verdict(sample),
      element("span", `${sample.benchmark} · ${sample.problem} · #${sample.sample}`, "name"),
      element("span", tokens(sample), "count"),
    );
    if (severalRuns) made.append(element("span", sample.run, "run"));
    made.addEventListener("click", () => {
      choose(at);
      // On a narrow screen the sample stands below the list.
      if (detail.getBoundingClientRect().top > window.innerHeight * 0.8) {
        detail.scrollIntoView({ block: "start" });
      }
    });
    return made;
  }

  function verdict(sample) {
    const word = sample.verdict.replaceAll("_", " ");
    return element("span", word, sample.verdict === "correct" ? "verdict correct" : "verdict");
  }

  function tokens(sample) {
    const cut = sample.finish === "length" ? " ✂" : "";
    return `${sample.tokens.toLocaleString("en")}${cut}`;
  }

  function markChosen() {
    for (const made of list.children) {
      made.setAttribute("aria-selected", String(made.id === `option-${place}`));
    }
    const chosen = byId(`option-${place}`);
    if (chosen === null) {
      list.removeAttribute("aria-activedescendant");
      return;
    }
    list.setAttribute("aria-activedescendant", chosen.id);
    // Only the list may scroll, not the page under the reader's eyes.
    const above = chosen.offsetTop - list.offsetTop;
    if (above < list.scrollTop) list.scrollTop = above;
    const below = above + chosen.offsetHeight - list.clientHeight;
    if (below > list.scrollTop) list.scrollTop = below;
  }

  function choose(at) {
    if (found.length === 0) return;
    const before = Math.floor(place / PAGE);
    place = Math.min(Math.max(at, 0), found.length - 1);
    if (Math.floor(place / PAGE) === before) markChosen();
    else showList();
    showDetail();
    remember();
  }

  function remember() {
    if (found.length === 0) return;
    try {
      history.replaceState(null, "", `#${fragments[found[place]]}`);
    } catch (error) {
      // A page inside a sandboxed frame has no address to change; the link below stays.
      if (!(error instanceof DOMException)) throw error;
    }
  }

  function showDetail() {
    if (found.length === 0) {
      detail.replaceChildren(element("p", "No sample passes these filters."));
      return;
    }
    const sample = samples[found[place]];
    const end = sample.finish === "length" ? "cut off at the cap" : "ended by itself";
    const line = element("p", undefined, "actions");
    line.append(
      verdict(sample),
      element("span", sample.reason),
      element("span", `${sample.tokens.toLocaleString("en")} tokens, ${end}`),
    );
    detail.replaceChildren(
      element("h3", `${sample.benchmark} · ${sample.problem} · sample ${sample.sample}`),
      element("p", sample.run, "remark"),
      line,
      actions(sample),
      ...block("Question", sample.question),
      ...block("Gold answer", sample.gold),
      ...block("Extracted answer", sample.extracted === null ? "none" : sample.extracted),
      ...block("Response", sample.response),
    );
  }

  function actions(sample) {
    const line = element("p", undefined, "actions");
    const before = button("Previous", () => choose(place - 1));
    const after = button("Next", () => choose(place + 1));
    before.disabled = place === 0;
    after.disabled = place === found.length - 1;
    const same = button("All of this problem", () => {
      const index = found[place];
      reset();
      filters.benchmark.value = sample.benchmark;
      filters.text.value = sample.problem;
      filter(index);
      remember();
    });
    const link = element("a", "Link to this sample");
    link.href = `#${fragments[found[place]]}`;
    line.append(before, after, same, link);
    return line;
  }

  function button(text, act) {
    const made = element("button", text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  }

  function block(heading, text) {
    const body = element("pre");
    body.dir = "auto";
    body.append(...marked(text, wanted()));
    return [element("h4", heading), body];
  }

  function marked(text, words) {
    const parts = [];
    const lower = words ? text.toLowerCase() : "";
    let from = 0;
    // In a few scripts small letters are longer than capitals: then places would not match.
    if (words && lower.length === text.length) {
      let at = lower.indexOf(words);
      for (let count = 0; at !== -1 && count < MARKS_AT_MOST; count += 1) {
        parts.push(text.slice(from, at), element("mark", text.slice(at, at + words.length)));
        from = at + words.length;
        at = lower.indexOf(words, from);
      }
    }
    parts.push(text.slice(from));
    return parts;
  }

  function reset() {
    for (const name of ["run", "benchmark", "verdict", "text"]) filters[name].value = "";
    filters.truncated.checked = false;
  }

  function linked() {
    return byFragment.get(location.hash.slice(1));
  }

  function follow() {
    const index = linked();
    if (index === undefined) return;
    if (!found.includes(index)) reset();
    filter(index);
    detail.scrollIntoView({ block: "nearest" });
  }

  const STEPS = new Map([
    ["ArrowDown", () => place + 1],
    ["ArrowUp", () => place - 1],
    ["PageDown", () => place + PAGE],
    ["PageUp", () => place - PAGE],
    ["Home", () => 0],
    ["End", () => found.length - 1],
  ]);

  list.addEventListener("keydown", (event) => {
    const step = STEPS.get(event.key);
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(step());
  });
  const again = () => {
    filter(found[place]);
    remember();
  };
  for (const name of ["run", "benchmark", "verdict", "truncated"]) {
    filters[name].addEventListener("change", again);
  }
  let waiting = 0;
  filters.text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(again, 200);
  });
  byId("filter-reset").addEventListener("click", () => {
    reset();
    again();
  });
  byId("page-before").addEventListener("click", () => choose(place - (place % PAGE) - PAGE));
  byId("page-after").addEventListener("click", () => choose(place - (place % PAGE) + PAGE));
  window.addEventListener("hashchange", follow);

  fillSelect(filters.run, samples.map((sample) => sample.run));
  fillSelect(filters.benchmark, samples.map((sample) => sample.benchmark));
  fillSelect(filters.verdict, samples.map((sample) => sample.verdict));
  byId("browser").hidden = false;
  filter(linked());
  if (linked() !== undefined) detail.scrollIntoView({ block: "start" });
})();
