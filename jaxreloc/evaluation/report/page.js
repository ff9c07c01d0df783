"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const report = JSON.parse(byId("data").textContent);
  const scenes = report.scenes.map(prepareScene);
  const state = { scene: 0, method: 0, query: 0, neighbor: 0, order: "index" };
  const scene = () => scenes[state.scene];
  const method = () => scene().methods[state.method];
  const pictures = () => scene().pictures[state.query];

  function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  // ---- numbers and names as text

  function length(metres) {
    if (metres === null) return "failed";
    if (metres < 0.01) return `${(1000 * metres).toFixed(1)} mm`;
    return metres < 1 ? `${(100 * metres).toFixed(1)} cm` : `${metres.toFixed(2)} m`;
  }

  function rounded(metres) {
    return metres < 1 ? `${+(100 * metres).toPrecision(3)} cm` : `${+metres.toPrecision(3)} m`;
  }

  function angle(degrees) {
    return degrees === null ? "failed" : `${degrees.toFixed(degrees < 10 ? 2 : 1)}\u00b0`;
  }

  const percent = (share) => `${(100 * share).toFixed(0)}%`;
  const sum = (values) => values.reduce((a, b) => a + b, 0);

  // Plotly reads tags and entities in its texts.
  const plain = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function errorText(i) {
    const m = method();
    if (!m.success[i]) return "not localized";
    if (scene().hasTruth) return `${length(m.positionErrors[i])}, ${angle(m.rotationErrors[i])}`;
    return m.positionStd[i] === null ? "localized" : `\u00b1 ${length(m.positionStd[i])}`;
  }

  // ---- cameras

  function prepareScene(scene) {
    const U = scene.uprightFromWorld;
    const camera = (poses, frames, i) => {
      const p = poses.slice(12 * i, 12 * i + 12);
      const column = (j) => [0, 3, 6].map((k) => U[k] * p[j] + U[k + 1] * p[4 + j] + U[k + 2] * p[8 + j]);
      return { center: column(3), axes: [0, 1, 2].map(column), frame: frames.slice(4 * i, 4 * i + 4) };
    };
    const all = ({ names, frames }, poses) => names.map((_, i) => camera(poses, frames, i));
    const database = all(scene.database, scene.database.poses);
    const truth = scene.hasTruth ? all(scene.queries, scene.queries.poses) : null;
    const methods = scene.methods.map((m) => ({
      ...m, cameras: all(scene.queries, m.poses).map((c, i) => (m.success[i] ? c : null)),
    }));
    const centers = [...database, ...(truth || [])].map((c) => c.center);
    const ends = [0, 1, 2].map((k) => centers.reduce(
      ([low, high], c) => [Math.min(low, c[k]), Math.max(high, c[k])], [Infinity, -Infinity],
    ));
    const extent = Math.max(Math.hypot(...ends.map(([low, high]) => high - low)), 1e-6);
    const share = Math.min(Math.max(0.5 / Math.sqrt(database.length), 0.02), 0.08);
    const size = share * extent; // of a drawn frustum
    return { ...scene, database, truth, methods, databaseNames: scene.database.names,
      databaseSizes: scene.database.sizes, queryNames: scene.queries.names, size,
      ranges: ends.map(([low, high]) => [low - 2 * size, high + 2 * size]) };
  }

  // One line along every edge of a camera's frustum, of which null ends the line.
  function frustum({ center, axes, frame: [left, top, right, bottom] }, size) {
    const scale = size / Math.max(1, right - left, bottom - top);
    const [a, b, c, d] = [[left, top], [right, top], [right, bottom], [left, bottom]].map(([x, y]) =>
      center.map((start, k) => start + scale * (x * axes[0][k] + y * axes[1][k] + axes[2][k])));
    return [a, b, c, d, a, center, b, c, center, d, null];
  }

  function cross([x, y, z], arm) {
    return [[x - arm, y - arm, z], [x + arm, y + arm, z], null, [x - arm, y + arm, z], [x + arm, y - arm, z], null];
  }

  // Lines (of points, each ended by null) in one trace for each map.
  function trace(name, colorName, lines, { width = 1, dash = "solid", ...more } = {}) {
    const points = lines.flatMap((line) => line.points);
    const each = (value) => lines.flatMap((line) => line.points.map(() => value(line)));
    const common = {
      name, mode: "lines", line: { color: color(colorName), width, dash }, connectgaps: false,
      hovertext: each((line) => line.text), hoverinfo: "text", customdata: each((line) => line.query),
      ...more,
    };
    const [x, y, z] = [0, 1, 2].map((k) => points.map((p) => (p ? p[k] : null)));
    // A line of the same width looks thinner in 3D.
    const solid = { ...common, type: "scatter3d", line: { ...common.line, width: 2 * width }, x, y, z };
    return { flat: { ...common, type: "scatter", x, y }, solid };
  }

  function cameraTraces() {
    const s = scene();
    const m = method();
    const near = pictures()?.neighbors ?? [];
    const chosen = state.query;
    const others = s.queryNames.map((_, i) => i).filter((i) => i !== chosen);
    const ofDatabase = (i, size) => ({ points: frustum(s.database[i], size), text: plain(s.databaseNames[i]), query: -1 });
    const label = (i) => `${plain(s.queryNames[i])}<br>${errorText(i)}`;
    const ofQueries = (cameras, which, size) => which.filter((i) => cameras?.[i])
      .map((i) => ({ points: frustum(cameras[i], size), text: label(i), query: i }));
    const joined = (which) => which.filter((i) => s.truth?.[i] && m.cameras[i])
      .map((i) => ({ points: [s.truth[i].center, m.cameras[i].center, null], query: i }));
    const failed = s.queryNames.map((_, i) => i).filter((i) => s.truth && !m.cameras[i])
      .map((i) => ({ points: cross(s.truth[i].center, 0.3 * s.size), text: label(i), query: i }));
    const from = (m.cameras[chosen] ?? s.truth?.[chosen])?.center;
    const rays = from ? near.map((i) => ({ points: [from, s.database[i].center, null], query: chosen })) : [];
    const far = s.database.map((_, i) => i).filter((i) => !near.includes(i));
    const silent = { hoverinfo: "skip", showlegend: false };
    const bold = { width: 2.5, showlegend: false };
    const current = near.slice(state.neighbor, state.neighbor + 1);
    return [
      trace("database camera", "database", far.map((i) => ofDatabase(i, 0.8 * s.size)), { opacity: 0.75 }),
      trace("retrieved for the chosen query", "neighbor", near.map((i) => ofDatabase(i, 1.1 * s.size)), { width: 1.4 }),
      trace("", "neighbor", current.map((i) => ofDatabase(i, 1.1 * s.size)), bold),
      trace("", "neighbor", rays, { ...silent, dash: "dash", opacity: 0.7 }),
      trace("", "estimate", joined(others), silent),
      trace("", "estimate", joined([chosen]), { ...silent, width: 2.5 }),
      trace("query, true pose", "truth", ofQueries(s.truth, others, 0.8 * s.size), { visible: s.hasTruth }),
      trace("query, estimated pose", "estimate", ofQueries(m.cameras, others, 0.8 * s.size)),
      trace("", "truth", ofQueries(s.truth, [chosen], 1.4 * s.size), bold),
      trace("", "estimate", ofQueries(m.cameras, [chosen], 1.4 * s.size), bold),
      trace("not localized", "rejected", failed, { width: 2, visible: failed.length > 0 }),
    ];
  }

  // ---- Plotly

  function plot(id, traces, layout) {
    const box = { t: 8, r: 8, b: 32, l: 44 };
    const style = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: color("canvas"), margin: box, hovermode: "closest",
      font: { color: color("muted"), size: 11, family: "system-ui, sans-serif" }, dragmode: "pan",
      legend: { orientation: "h", y: -0.12, yanchor: "top" }, showlegend: true, uirevision: state.scene,
    };
    const config = { responsive: true, scrollZoom: true, displayModeBar: false };
    return Plotly.react(byId(id), traces, { ...style, ...layout }, config);
  }

  function axis(more = {}) {
    const lines = color("grid");
    return { gridcolor: lines, zerolinecolor: lines, linecolor: lines, title: { text: "" }, ...more };
  }

  function drawMaps() {
    const traces = cameraTraces();
    const { ranges } = scene();
    const [x, y, z] = ranges.map((range) => axis({ range, ticksuffix: " m" }));
    const sides = ranges.map(([low, high]) => high - low);
    const [across, along, up] = sides.map((side) => (2 * side) / Math.hypot(...sides));
    return [
      plot("top", traces.map((t) => t.flat), { xaxis: x, yaxis: { ...y, scaleanchor: "x" } }),
      plot("orbit", traces.map((t) => t.solid), {
        showlegend: false, margin: { t: 0, r: 0, b: 0, l: 0 },
        scene: {
          xaxis: x, yaxis: y, zaxis: z, aspectmode: "manual", aspectratio: { x: across, y: along, z: up },
          dragmode: "turntable", camera: { eye: { x: -0.8, y: -1.3, z: 0.8 } },
        },
      }),
    ];
  }

  function drawMatches() {
    const s = scene();
    const shown = pictures();
    if (!shown) return [];
    const neighbor = shown.neighbors[state.neighbor];
    const aspect = (sizes, i) => sizes[2 * i] / sizes[2 * i + 1];
    const widths = [aspect(s.queries.sizes, state.query), aspect(s.databaseSizes, neighbor)];
    const starts = [0, widths[0] + 0.03];
    const picture = (source, k) => ({
      source, x: starts[k], y: 0, sizex: widths[k], sizey: 1, xref: "x", yref: "y", yanchor: "top", sizing: "stretch", layer: "below",
    });
    const lines = (points, name, colorName, opacity) => {
      const ends = [];
      for (let i = 0; i < points.length; i += 4) {
        const [x, y, u, v] = points.slice(i, i + 4).map((p) => p / 1e4);
        ends.push([x * widths[0], y], [starts[1] + u * widths[1], v], [null, null]);
      }
      return {
        type: "scatter", mode: "lines+markers", name, opacity, hoverinfo: "skip", x: ends.map((p) => p[0]), y: ends.map((p) => p[1]),
        line: { color: color(colorName), width: 1 }, marker: { color: color(colorName), size: 4, symbol: "square-open" },
      };
    };
    const matches = shown.matches?.[state.neighbor];
    const traces = matches ? [
      lines(matches.rejected, "other matches", "rejected", 0.45),
      lines(matches.inliers, "agreeing matches", "inlier", 0.85),
    ] : [lines([], "", "inlier", 1)];
    return [plot("matches", traces, {
      images: [picture(shown.thumbnail, 0), picture(s.thumbnails[neighbor], 1)], margin: { t: 0, r: 0, b: 28, l: 0 },
      xaxis: { visible: false, range: [0, starts[1] + widths[1]], constrain: "domain" },
      yaxis: { visible: false, range: [1, 0], scaleanchor: "x", constrain: "domain" },
      legend: { orientation: "h", y: 0, yanchor: "top" }, showlegend: Boolean(matches),
    })];
  }

  function drawCurves() {
    const s = scene();
    byId("curves-panel").hidden = !s.hasTruth;
    if (!s.hasTruth) return [];
    const curve = (id, field, [low, high], title, ticks) => plot(id, s.methods.map((m, k) => {
      const sorted = m[field].filter((v) => v !== null).sort((a, b) => a - b);
      const share = sorted.map((_, i) => (i + 1) / m[field].length);
      return {
        type: "scatter", mode: "lines", name: plain(m.title), x: [low, ...sorted.map((v) => Math.max(v, low)), 1e3],
        y: [0, ...share, share.at(-1) ?? 0], hoverinfo: "x+y+name",
        line: { shape: "hv", color: color(`series-${k % 4}`), width: k === state.method ? 2.6 : 1.5 },
      };
    }), {
      xaxis: axis({ type: "log", range: [Math.log10(low), Math.log10(high)], title: { text: title }, ...ticks }),
      yaxis: axis({ range: [0, 1.02], tickformat: ".0%" }), legend: { orientation: "h", y: -0.25, yanchor: "top" }, margin: { t: 8, r: 12, b: 60, l: 44 },
    });
    return [
      curve("position-curve", "positionErrors", [0.003, 10], "position error", {
        tickvals: [0.01, 0.1, 1, 10], ticktext: ["1 cm", "10 cm", "1 m", "10 m"] }),
      curve("rotation-curve", "rotationErrors", [0.05, 180], "rotation error", {
        tickvals: [0.1, 1, 10, 100], ticktext: ["0.1\u00b0", "1\u00b0", "10\u00b0", "100\u00b0"] }),
    ];
  }

  let asked = 0;
  async function draw() {
    const root = document.documentElement.dataset;
    const now = root.asked = String(++asked);
    await Promise.all([...drawMaps(), ...drawMatches(), ...drawCurves()]);
    root.drawn = now;
  }

  // ---- the chosen query

  function orderedQueries() {
    const m = method();
    const error = (i) => (scene().hasTruth ? m.positionErrors[i] ?? Infinity : m.success[i] ? m.positionStd[i] ?? 0 : Infinity);
    const order = scene().queryNames.map((_, i) => i);
    if (state.order === "worst") order.sort((a, b) => error(b) - error(a) || a - b);
    if (state.order === "best") order.sort((a, b) => error(a) - error(b) || a - b);
    return order;
  }

  function card(uri, name, text, pressed, failed, choose) {
    const node = element("button", { type: "button", className: "card", title: name });
    if (uri) node.append(element("img", { src: uri, alt: "", loading: "lazy" }));
    const facts = element("b", { textContent: text, className: failed ? "failed" : "" });
    node.append(element("span", {}, name.split("/").pop(), element("br"), facts));
    node.setAttribute("aria-pressed", pressed);
    node.addEventListener("click", choose);
    return node;
  }

  function showQueries() {
    const s = scene();
    const pictured = orderedQueries().filter((i) => s.pictures[i]);
    byId("queries").replaceChildren(...pictured.map((i) => {
      const node = card(s.pictures[i].thumbnail, s.queryNames[i], errorText(i), false, !method().success[i], () => selectQuery(i));
      node.dataset.query = i;
      return node;
    }));
    byId("pictured").textContent = pictured.length < s.queryNames.length
      ? `Pictures of ${pictured.length} of ${s.queryNames.length} queries, evenly chosen; the others are in the maps.` : "";
  }

  function showQuery() {
    const s = scene();
    const m = method();
    const i = state.query;
    byId("query-name").textContent = s.queryNames[i];
    const facts = [];
    if (!m.success[i]) facts.push("not localized");
    else {
      if (s.hasTruth) facts.push(`position error ${length(m.positionErrors[i])}`, `rotation error ${angle(m.rotationErrors[i])}`);
      facts.push(`${sum(m.agreeing[i])} of ${m.agreeing[i].length} retrieved images agree`);
      if (m.positionStd[i] !== null) facts.push(`predicted \u00b1 ${length(m.positionStd[i])} (1 \u03c3)`);
    }
    byId("query-facts").textContent = facts.join("  \u00b7  ");
    for (const node of byId("queries").children) {
      const chosen = Number(node.dataset.query) === i;
      node.setAttribute("aria-pressed", chosen);
      if (chosen) {
        const left = node.offsetLeft - node.parentElement.offsetLeft;
        node.parentElement.scrollTo({ left: left - node.parentElement.clientWidth / 2 });
      }
    }
    showNeighbors();
    draw();
  }

  function showNeighbors() {
    const s = scene();
    const shown = pictures();
    document.querySelector(".pair").hidden = !shown;
    if (!shown) return;
    const agreeing = method().agreeing[state.query];
    byId("neighbors").replaceChildren(...shown.neighbors.map((i, k) => {
      const matches = shown.matches?.[k];
      const parts = [matches ? `${matches.numInliers}/${matches.num}` : "", agreeing[k] ? "\u2713 agrees" : "disagrees"];
      const text = parts.filter(Boolean).join(" \u00b7 ");
      return card(s.thumbnails[i], s.databaseNames[i], text, k === state.neighbor, !agreeing[k], () => {
        state.neighbor = k;
        showNeighbors();
        draw();
      });
    }));
    const matches = shown.matches?.[state.neighbor];
    byId("pair-facts").textContent = matches
      ? `query and ${s.databaseNames[shown.neighbors[state.neighbor]]}: ${matches.numInliers} of ${matches.num} matches by ` +
        `${s.matchedBy} fit one relative pose; ${(matches.inliers.length + matches.rejected.length) / 4} are drawn`
      : "";
  }

  // ---- results

  function showTiles() {
    const s = scene();
    const m = method();
    const total = s.queryNames.length;
    const tiles = [
      ["database", s.database.length, "database images"],
      ["queries", total, "queries"],
      ["localized", `${sum(m.success)} of ${total}`, "localized"],
    ];
    if (s.hasTruth) {
      const [metres, degrees] = report.recallThresholds[1];
      tiles.push(
        ["medianPosition", length(m.medianPosition), "median position error"],
        ["medianRotation", angle(m.medianRotation), "median rotation error"],
        ["recall", percent(m.recalls[1]), `within ${rounded(metres)} and ${degrees}\u00b0`],
      );
    }
    byId("tiles").replaceChildren(...tiles.map(([id, value, text]) => {
      const node = element("div", { className: "tile" }, element("b", { textContent: value }), element("span", { textContent: text }));
      node.dataset.field = id;
      return node;
    }));
  }

  function showResults() {
    const s = scene();
    const heads = s.hasTruth
      ? ["method", "t", "r", ...report.recallThresholds.map(([t, r]) => `${rounded(t)}, ${r}\u00b0`), "failed"]
      : ["method", "localized", "failed"];
    const rows = s.methods.map((m, k) => {
      const cells = s.hasTruth ? [
        ["medianPosition", length(m.medianPosition)], ["medianRotation", angle(m.medianRotation)],
        ...m.recalls.map((r, i) => [`recall${i}`, percent(r)]),
      ] : [["localized", sum(m.success)]];
      const row = element("tr", { className: k === state.method ? "chosen" : "" }, element("td", { textContent: m.title }));
      row.dataset.method = m.key;
      for (const [field, text] of [...cells, ["failed", m.success.length - sum(m.success)]]) {
        const cell = element("td", { textContent: text });
        cell.dataset.field = field;
        row.append(cell);
      }
      return row;
    });
    const head = element("tr", {}, ...heads.map((text) => element("th", { textContent: text })));
    byId("results").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  }

  // ---- what is chosen

  function selectQuery(i) {
    state.query = i;
    state.neighbor = 0;
    showQuery();
  }

  function step(by) {
    const order = orderedQueries();
    selectQuery(order[(order.indexOf(state.query) + by + order.length) % order.length]);
  }

  function selectMethod(k) {
    state.method = k;
    [...byId("method").children].forEach((node, i) => node.setAttribute("aria-pressed", i === k));
    showTiles();
    showQueries();
    showQuery();
    showResults();
  }

  function selectScene(k) {
    state.scene = k;
    byId("method").hidden = scene().methods.length < 2;
    byId("method").replaceChildren(...scene().methods.map((m, i) => {
      const node = element("button", { type: "button", textContent: m.title });
      node.addEventListener("click", () => selectMethod(i));
      return node;
    }));
    state.query = Number(Object.keys(scene().pictures)[0] ?? 0);
    state.neighbor = 0;
    selectMethod(Math.max(0, scene().methods.findIndex((m) => m.key === "network")));
  }

  function start() {
    byId("title").textContent = report.title;
    byId("subtitle").textContent =
      `${sum(scenes.map((s) => s.queryNames.length))} queries against ${sum(scenes.map((s) => s.database.length))} database images` +
      (scenes.length > 1 ? ` in ${scenes.length} scenes` : "");
    byId("scene").append(...scenes.map((s, i) => element("option", { value: i, textContent: s.name })));
    byId("scene-control").hidden = scenes.length < 2;
    for (const [name, value] of Object.entries(report.settings)) {
      byId("settings").append(element("dt", { textContent: name }), element("dd", { textContent: value }));
    }
    selectScene(0);
    byId("scene").addEventListener("change", (event) => selectScene(Number(event.target.value)));
    byId("order").addEventListener("change", (event) => {
      state.order = event.target.value;
      showQueries();
      selectQuery(orderedQueries().find((i) => scene().pictures[i]) ?? 0);
    });
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    addEventListener("keydown", (event) => {
      if (event.target.matches("select, input, button") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    });
    for (const id of ["top", "orbit"]) {
      byId(id).on("plotly_click", ({ points }) => {
        if (points[0].customdata >= 0) selectQuery(points[0].customdata);
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  start();
})();
