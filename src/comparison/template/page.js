// Draws the page's charts from the specifications it carries, and lets one selection drive all of them.
(() => {
  "use strict";
  const SHARED = ["language", "target", "analysis"];
  const ERRORS = 1; // of Vega's log levels
  const NARROW = 760; // pixels below which panels stand under one another
  const bar = document.querySelector(".bar");
  const figures = [...document.querySelectorAll("figure.live")];
  let specs = []; // of the figures, once they are unpacked
  const chosen = {};
  let drawn = [];

  const unpack = async () => {
    const bytes = Uint8Array.from(atob(document.getElementById("specs").textContent), (byte) => byte.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const byName = await new Response(stream).json();
    return figures.map((figure) => byName[figure.id]);
  };

  const wrap = (lines, length) => [].concat(lines).flatMap((line) =>
    line.split(" ").reduce((rows, word) => {
      const last = rows[rows.length - 1];
      if (last !== undefined && (last + " " + word).length <= length) rows[rows.length - 1] = last + " " + word;
      else rows.push(word);
      return rows;
    }, []));

  // A specification that fits the room: titles wrapped always, panels in one column on a phone.
  const fit = (spec, room) => {
    if (spec.title && spec.title.subtitle) spec.title.subtitle = wrap(spec.title.subtitle, Math.max(30, room / 6));
    if (room >= NARROW) return spec;
    if (spec.title) Object.assign(spec.title, { fontSize: 13, frame: "bounds" });
    const inner = spec.spec || spec;
    if (spec.spec) Object.assign(spec, { columns: 1, spacing: 34 });
    if (typeof inner.width === "number") inner.width = Math.max(150, Math.min(inner.width * 1.4, room - 165));
    if (inner.width && inner.width.step) {
      inner.width = { step: Math.min(inner.width.step, 48) };
      for (const layer of inner.layer || []) Object.assign(layer.encoding.x.axis || {}, { labelAngle: -35, labelAlign: "left" });
    }
    (spec.vconcat || []).forEach((part) => fit(part, room));
    return spec;
  };

  const choose = (key, value) => {
    chosen[key] = value;
    const select = bar.querySelector(`select[name="${key}"]`);
    if (select) select.value = value;
    return Promise.all(drawn.filter((view) => view.keys.includes(key)).map((view) => view.view.signal(key, value).runAsync()));
  };

  const addSelects = () => {
    for (const key of SHARED) {
      const param = specs.flatMap((spec) => spec.params || []).find((candidate) => candidate.name === key);
      if (!param || !param.bind || param.bind.options.length < 2) continue;
      chosen[key] = param.value;
      const label = document.createElement("label");
      const select = document.createElement("select");
      select.name = key;
      param.bind.options.forEach((value, i) => select.add(new Option((param.bind.labels || [])[i] || value, value)));
      select.value = param.value;
      select.addEventListener("change", () => choose(key, select.value));
      label.append(key, select);
      bar.insertBefore(label, bar.querySelector("button"));
    }
  };

  const draw = async () => {
    delete document.body.dataset.ready;
    drawn.forEach((view) => view.finalize());
    drawn = [];
    for (const [i, figure] of figures.entries()) {
      await new Promise((resume) => setTimeout(resume)); // what is drawn is seen, and clicks are heard, before the next
      const spec = fit(structuredClone(specs[i]), figure.clientWidth);
      const keys = (spec.params || []).map((param) => param.name);
      for (const param of spec.params || []) {
        if (SHARED.includes(param.name) || (param.bind && param.bind.options.length < 2)) delete param.bind;
        if (param.name in chosen) param.value = chosen[param.name];
      }
      const actions = { export: true, source: false, compiled: false, editor: false };
      const options = { renderer: "svg", actions, bind: figure.querySelector(".controls"), downloadFileName: figure.id, logLevel: ERRORS };
      figure.querySelector(".controls").replaceChildren();
      const result = await vegaEmbed(figure.querySelector(".chart"), spec, options);
      drawn.push({ view: result.view, keys, finalize: () => result.finalize() });
      result.view.addEventListener("click", (event, item) => {
        const language = item && item.datum && item.datum.language;
        const select = bar.querySelector('select[name="language"]');
        if (select && [...select.options].some((option) => option.value === language)) choose("language", language);
      });
    }
    document.body.dataset.ready = String(drawn.length);
  };

  const addCopyButtons = () => {
    for (const box of document.querySelectorAll(".table")) {
      const button = document.createElement("button");
      button.textContent = "Copy";
      button.addEventListener("click", () => {
        const range = document.createRange();
        range.selectNode(box.querySelector("table"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
        setTimeout(() => (button.textContent = "Copy"), 1500);
      });
      box.querySelector(".tools").append(button);
    }
  };

  bar.querySelector("button").addEventListener("click", () => document.body.classList.toggle("show-code"));
  addCopyButtons();
  unpack().then((unpacked) => {
    specs = unpacked;
    addSelects();
    draw();
  });
  let width = innerWidth;
  let timer;
  addEventListener("resize", () => {
    clearTimeout(timer);
    if (innerWidth !== width && specs.length) timer = setTimeout(() => { width = innerWidth; draw(); }, 250);
  });
})();
