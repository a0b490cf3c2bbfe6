// Draws the page's charts, lets one selection drive all of them, and offers charts and tables as files.
(() => {
  "use strict";
  const SHARED = ["language", "target", "analysis"];
  const NARROW = 640; // pixels below which panels stand under one another
  const bar = document.querySelector(".bar");
  const figures = [...document.querySelectorAll("figure[data-spec]")];
  const chosen = {};
  let specs = [];
  let drawn = [];

  const unpack = async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const element = (parent, name, text, values) => parent.appendChild(Object.assign(document.createElement(name), { textContent: text }, values));
  const save = (name, content) => Object.assign(document.createElement("a"), { download: name, href: content }).click();

  // Titles are wrapped to the room there is; on a phone panels stand in one column.
  const wrap = (lines, length) => lines.flatMap((line) =>
    line.split(" ").reduce((rows, word) => {
      const last = rows[rows.length - 1];
      if (last !== undefined && (last + " " + word).length <= length) rows[rows.length - 1] = last + " " + word;
      else rows.push(word);
      return rows;
    }, []));
  const fit = (spec, room) => {
    spec.title.subtitle = wrap(spec.usermeta.caption, Math.floor(Math.min(room - 30, 680) / 6.2));
    if (room >= NARROW) return spec;
    spec.title.fontSize = 13;
    const inner = spec.spec || spec;
    if (spec.spec) Object.assign(spec, { columns: 1, spacing: 34, resolve: { axis: { x: "independent" }, ...spec.resolve } });
    if (typeof inner.width === "number") inner.width = Math.max(150, Math.min(inner.width * 1.4, room - 190));
    if (inner.width && inner.width.step) {
      inner.width = { step: Math.min(inner.width.step, 48) };
      for (const layer of inner.layer || []) Object.assign(layer.encoding.x.axis || {}, { labelAngle: -35, labelAlign: "left" });
    }
    spec.config = spec.config || {};
    spec.config.legend = Object.assign(spec.config.legend || {}, { columns: 2, titleOrient: "top" });
    return spec;
  };

  const prepared = (i, room) => {
    const spec = fit(structuredClone(specs[i]), room);
    for (const param of spec.params || []) {
      if (SHARED.includes(param.name) || param.bind.options.length < 2) delete param.bind;
      if (param.name in chosen) param.value = chosen[param.name];
    }
    return spec;
  };
  const draw = async () => {
    document.body.removeAttribute("data-ready");
    drawn.forEach((view) => view.finalize());
    drawn = [];
    for (const [i, figure] of figures.entries()) {
      const controls = figure.querySelector(".controls");
      controls.replaceChildren();
      const options = { renderer: "svg", actions: false, bind: controls, logLevel: 1 };
      drawn.push((await vegaEmbed(figure.querySelector(".chart"), prepared(i, figure.clientWidth), options)).view);
      element(controls, "span", "Save ", { className: "save" });
      for (const kind of ["svg", "png"]) for (const titled of [true, false]) {
        const text = kind.toUpperCase() + (titled ? "" : " without title");
        element(controls.lastChild, "button", text, { onclick: () => picture(i, kind, titled) });
      }
    }
    document.body.dataset.ready = String(drawn.length);
  };
  const picture = async (i, kind, titled) => {
    let view = drawn[i];
    if (!titled) {
      const spec = prepared(i, 1000);
      for (const param of spec.params || []) param.value = view.signal(param.name);
      delete spec.title;
      view = (await vegaEmbed(document.createElement("div"), spec, { renderer: "none", actions: false })).view;
    }
    save(`${specs[i].usermeta.chart}${titled ? "" : "-untitled"}.${kind}`, await view.toImageURL(kind, 3));
  };

  const addSelects = () => {
    for (const key of SHARED) {
      const params = specs.flatMap((spec) => spec.params || []).filter((param) => param.name === key);
      const labels = new Map(params.flatMap((param) => param.bind.options.map((value, i) => [value, param.bind.labels[i]])));
      if (labels.size < 2) continue;
      const select = element(element(bar, "label", key + " "), "select", "", { name: key });
      for (const [value, label] of labels) select.add(new Option(label, value));
      select.addEventListener("change", () => {
        chosen[key] = select.value;
        drawn.forEach((view, i) => {
          if ((specs[i].params || []).some((param) => param.name === key)) view.signal(key, select.value).runAsync();
        });
      });
    }
  };

  // A table's link holds all of it as compressed CSV, also the rows that are not shown.
  const cells = (csv) => csv.trimEnd().split("\n").map((line) =>
    [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map((m) => m[1] === undefined ? m[2] : m[1].replaceAll('""', '"')));
  const NUMBER = /^-?\d+(\.\d+)?(e[-+]\d+)?$/;
  const rounded = (text, digits) => { // as page.table does it
    const size = Math.abs(Number(text));
    if (!NUMBER.test(text) || /^-?\d+$/.test(text)) return text;
    const few = size >= 1e6 || (size !== 0 && size < 10 ** -digits / 2);
    return few ? String(Number(Number(text).toPrecision(2))) : Number(text).toFixed(digits);
  };
  const written = (csv, digits) => {
    const [head, ...body] = cells(csv);
    const right = head.map((_, i) => body.every((row) => row[i] === "" || NUMBER.test(row[i])));
    return [head, body.map((row) => row.map((text) => rounded(text, digits))), right];
  };
  const COMMANDS = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
  const WRITERS = {
    CSV: (csv) => csv,
    LaTeX: (csv, digits) => {
      const [head, body, right] = written(csv, digits);
      const escaped = (text) => text.replace(/[&%$#_{}\\~^]/g, (letter) => COMMANDS[letter] || "\\" + letter).replace(/^-(?=\d)/, "$$-$$");
      const [first, ...rest] = [head, ...body].map((row) => row.map(escaped).join(" & ") + " \\\\");
      const begin = `\\begin{longtable}{${right.map((is) => is ? "r" : "l").join("")}}`;
      return ["% needs \\usepackage{longtable}", begin, "\\hline", first, "\\hline", "\\endhead", ...rest, "\\hline", "\\end{longtable}", ""].join("\n");
    },
    Markdown: (csv, digits) => {
      const [head, body, right] = written(csv, digits);
      const [first, ...rest] = [head, ...body].map((row) => "| " + row.map((text) => text.replaceAll("|", "\\|")).join(" | ") + " |");
      return [first, "|" + right.map((is) => is ? " ---: |" : " --- |").join(""), ...rest, ""].join("\n");
    },
  };
  const ENDINGS = { CSV: "csv", LaTeX: "tex", Markdown: "md" };
  for (const link of document.querySelectorAll(".table a[download]")) {
    const digits = link.closest(".table").dataset.digits;
    const name = link.download.split(".")[0];
    const content = unpack(link.href.split(",")[1]);
    for (const kind of Object.keys(WRITERS)) {
      const onclick = async () => save(`${name}.${ENDINGS[kind]}`, URL.createObjectURL(new Blob([WRITERS[kind](await content, digits)])));
      element(link.parentNode, "button", kind, { onclick });
    }
    link.remove();
  }
  for (const cell of document.querySelectorAll("td")) if (/^[−+\d][\d.,e+]*$|^–$/.test(cell.textContent)) cell.className = "n";

  for (const [i, heading] of document.querySelectorAll("main h2").entries()) {
    heading.id = `section-${i}`;
    const title = heading.textContent.replace("¶", "");
    element(element(bar.querySelector("ol"), "li", ""), "a", title, { href: `#${heading.id}` });
  }
  Promise.all(figures.map((figure) => unpack(figure.dataset.spec))).then((texts) => {
    specs = texts.map(JSON.parse);
    addSelects();
    return draw();
  });
  let width = innerWidth;
  let timer;
  addEventListener("resize", () => {
    clearTimeout(timer);
    if (matchMedia("print").matches) return; // paper shows what the screen showed, scaled
    if (innerWidth !== width && specs.length) timer = setTimeout(() => { width = innerWidth; draw(); }, 250);
  });
})();
