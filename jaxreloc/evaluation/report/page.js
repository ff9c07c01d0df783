"use strict";
(() => {
  const report = JSON.parse(byId("data").textContent);
  const scenes = report.scenes.map(prepareScene);
  const state = { scene: 0, method: 0, query: 0, neighbor: 0, order: "index" };
  const views = { top: null, orbit: null };
  const images = new Map();
  const MANY = 1500; // cameras beyond which they are drawn as dots
  let colors = readColors();
  let scheduled = false;

  // ---- small helpers

  function byId(id) {
    return document.getElementById(id);
  }

  function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  function clamp(value, low, high) {
    return Math.min(Math.max(value, low), high);
  }

  function readColors() {
    const style = getComputedStyle(document.documentElement);
    const names = ["ink", "muted", "line", "canvas", "grid", "database", "neighbor", "truth", "estimate", "inlier", "rejected"];
    for (let i = 0; i < 4; i++) names.push(`series-${i}`);
    return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  function length(metres) {
    if (metres === null || metres === undefined) return "failed";
    if (metres < 0.01) return `${(1000 * metres).toFixed(1)} mm`;
    if (metres < 1) return `${(100 * metres).toFixed(1)} cm`;
    return `${metres.toFixed(2)} m`;
  }

  function rounded(metres) {
    return metres < 1 ? `${+(100 * metres).toPrecision(3)} cm` : `${+metres.toPrecision(3)} m`;
  }

  function angle(degrees) {
    return degrees === null || degrees === undefined ? "failed" : `${degrees.toFixed(degrees < 10 ? 2 : 1)}\u00b0`;
  }

  function percent(share) {
    return `${(100 * share).toFixed(0)}%`;
  }

  function add(a, b, s = 1) {
    return [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
  }

  function distance(a, b) {
    return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
  }

  // ---- data

  function prepareScene(scene) {
    const U = scene.uprightFromWorld;
    const turn = (v) => [0, 3, 6].map((i) => U[i] * v[0] + U[i + 1] * v[1] + U[i + 2] * v[2]);
    const camera = (poses, i, frame) => {
      const p = poses.slice(12 * i, 12 * i + 12);
      const column = (j) => turn([p[j], p[4 + j], p[8 + j]]);
      return { center: column(3), axes: [column(0), column(1), column(2)], frame };
    };
    const frame = (cameras, i) => cameras.frames.slice(4 * i, 4 * i + 4);
    const all = (cameras, poses) => cameras.names.map((_, i) => camera(poses, i, frame(cameras, i)));
    const database = all(scene.database, scene.database.poses);
    const truth = scene.hasTruth ? all(scene.queries, scene.queries.poses) : null;
    const methods = scene.methods.map((method) => {
      const cameras = all(scene.queries, method.poses);
      return { ...method, cameras: cameras.map((c, i) => (method.success[i] ? c : null)) };
    });
    const centers = [...database, ...(truth || [])].map((c) => c.center);
    const low = [0, 1, 2].map((k) => centers.reduce((m, c) => Math.min(m, c[k]), Infinity));
    const high = [0, 1, 2].map((k) => centers.reduce((m, c) => Math.max(m, c[k]), -Infinity));
    const extent = Math.max(distance(low, high), 1e-6);
    return {
      ...scene, database, truth, methods, low, high, extent,
      databaseNames: scene.database.names,
      queryNames: scene.queries.names,
      middle: low.map((v, k) => (v + high[k]) / 2),
      size: extent * clamp(0.5 / Math.sqrt(database.length), 0.02, 0.08), // of a drawn frustum
    };
  }

  const scene = () => scenes[state.scene];
  const method = () => scene().methods[state.method];
  const pictures = () => scene().pictures[state.query];

  function errorOf(i) {
    const m = method();
    return scene().hasTruth ? (m.positionErrors[i] ?? Infinity) : m.success[i] ? m.positionStd[i] ?? 0 : Infinity;
  }

  function orderedQueries() {
    const order = scene().queryNames.map((_, i) => i);
    if (state.order === "worst") order.sort((a, b) => errorOf(b) - errorOf(a) || a - b);
    if (state.order === "best") order.sort((a, b) => errorOf(a) - errorOf(b) || a - b);
    return order;
  }

  // ---- the maps

  function resetViews() {
    const s = scene();
    views.top = { x: s.middle[0], y: s.middle[1], scale: null };
    views.orbit = { yaw: -0.6, pitch: 0.5, distance: 0.95 * s.extent + 2 * s.size };
  }

  function fit(canvas, height) {
    if (height !== undefined) canvas.style.height = `${height}px`;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const tall = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(tall * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(tall * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, tall);
    context.font = "11px system-ui, sans-serif";
    return { context, width, height: tall };
  }

  function topProjector(width, height) {
    const view = views.top;
    const s = scene();
    const fitting = Math.min(
      width / (s.high[0] - s.low[0] + 3.5 * s.size),
      height / (s.high[1] - s.low[1] + 3.5 * s.size),
    );
    view.scale ??= fitting;
    return {
      scale: view.scale,
      project: (p) => [width / 2 + view.scale * (p[0] - view.x), height / 2 - view.scale * (p[1] - view.y)],
    };
  }

  function orbitProjector(width, height) {
    const { yaw, pitch, distance: far } = views.orbit;
    const target = scene().middle;
    const focal = 0.95 * Math.min(width, 1.25 * height);
    const near = 0.02 * far;
    return {
      project: (p) => {
        const d = add(p, target, -1);
        const x = Math.cos(yaw) * d[0] + Math.sin(yaw) * d[1];
        const y = -Math.sin(yaw) * d[0] + Math.cos(yaw) * d[1];
        const depth = y * Math.cos(pitch) - d[2] * Math.sin(pitch) + far;
        if (depth < near) return null;
        const up = y * Math.sin(pitch) + d[2] * Math.cos(pitch);
        return [width / 2 + (focal * x) / depth, height / 2 - (focal * up) / depth];
      },
    };
  }

  function line(context, project, a, b) {
    const p = project(a);
    const q = project(b);
    if (!p || !q) return;
    context.moveTo(p[0], p[1]);
    context.lineTo(q[0], q[1]);
  }

  function corners(camera, size) {
    const [left, top, right, bottom] = camera.frame;
    const scale = size / Math.max(1, right - left, bottom - top);
    return [[left, top], [right, top], [right, bottom], [left, bottom]].map(([x, y]) => {
      const [ax, ay, az] = camera.axes;
      return add(add(add(camera.center, ax, scale * x), ay, scale * y), az, scale);
    });
  }

  // Small as a face is, its perspective is taken for affine.
  function drawPicture(context, face, picture) {
    const [a, b, , d] = face;
    const { naturalWidth: w, naturalHeight: h } = picture;
    context.save();
    context.globalAlpha = 0.85;
    context.transform((b[0] - a[0]) / w, (b[1] - a[1]) / w, (d[0] - a[0]) / h, (d[1] - a[1]) / h, a[0], a[1]);
    context.drawImage(picture, 0, 0);
    context.restore();
  }

  function drawFrustum(context, project, camera, size, color, { width = 1, fill = 0, opacity = 1, picture = null } = {}) {
    const face = corners(camera, size);
    const projected = face.map(project);
    if (picture && picture.naturalWidth && projected.every(Boolean)) drawPicture(context, projected, picture);
    context.globalAlpha = opacity;
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    for (let i = 0; i < 4; i++) {
      line(context, project, camera.center, face[i]);
      line(context, project, face[i], face[(i + 1) % 4]);
    }
    context.stroke();
    if (fill && projected.every(Boolean)) {
      context.globalAlpha = fill;
      context.fillStyle = color;
      context.beginPath();
      projected.forEach((p, i) => (i ? context.lineTo(p[0], p[1]) : context.moveTo(p[0], p[1])));
      context.fill();
    }
    context.globalAlpha = 1;
  }

  function dot(context, project, center, radius, color) {
    const p = project(center);
    if (!p) return;
    context.fillStyle = color;
    context.beginPath();
    context.arc(p[0], p[1], radius, 0, 2 * Math.PI);
    context.fill();
  }

  function cross(context, project, center, color) {
    const p = project(center);
    if (!p) return;
    context.strokeStyle = color;
    context.lineWidth = 2;
    context.beginPath();
    for (const s of [-1, 1]) {
      context.moveTo(p[0] - 5, p[1] - 5 * s);
      context.lineTo(p[0] + 5, p[1] + 5 * s);
    }
    context.stroke();
  }

  function gridStep(extent) {
    const power = 10 ** Math.floor(Math.log10(extent / 4));
    return [1, 2, 5, 10].map((m) => m * power).find((step) => extent / step <= 8);
  }

  function drawGrid(context, project) {
    const s = scene();
    const step = gridStep(s.extent);
    const from = [0, 1].map((k) => Math.floor((s.low[k] - 2 * s.size) / step) * step);
    const to = [0, 1].map((k) => Math.ceil((s.high[k] + 2 * s.size) / step) * step);
    const z = s.low[2] - s.size;
    context.strokeStyle = colors.grid;
    context.lineWidth = 1;
    context.beginPath();
    for (let x = from[0]; x <= to[0] + step / 2; x += step) line(context, project, [x, from[1], z], [x, to[1], z]);
    for (let y = from[1]; y <= to[1] + step / 2; y += step) line(context, project, [from[0], y, z], [to[0], y, z]);
    context.stroke();
  }

  function drawScaleBar(context, scale, height) {
    const step = gridStep(scene().extent) / 2;
    const bar = step * scale;
    context.strokeStyle = colors.muted;
    context.fillStyle = colors.muted;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(14, height - 20);
    context.lineTo(14, height - 15);
    context.lineTo(14 + bar, height - 15);
    context.lineTo(14 + bar, height - 20);
    context.stroke();
    context.textAlign = "left";
    context.fillText(rounded(step), 14, height - 25);
  }

  function drawCameras(context, project) {
    const s = scene();
    const m = method();
    const shown = pictures();
    const near = new Set(shown ? shown.neighbors : []);
    const dots = s.database.length > MANY;
    s.database.forEach((camera, i) => {
      if (near.has(i)) return;
      if (dots) dot(context, project, camera.center, 1.2, colors.database);
      else drawFrustum(context, project, camera, 0.8 * s.size, colors.database, { opacity: 0.75 });
    });
    const plain = s.queryNames.length > MANY;
    context.lineWidth = 1.2;
    s.queryNames.forEach((_, i) => {
      if (i === state.query) return;
      drawQuery(context, project, i, plain, false);
    });
    const chosen = m.cameras[state.query] || (s.truth && s.truth[state.query]);
    if (chosen) {
      context.setLineDash([4, 4]);
      context.strokeStyle = colors.neighbor;
      context.globalAlpha = 0.7;
      context.beginPath();
      near.forEach((i) => line(context, project, chosen.center, s.database[i].center));
      context.stroke();
      context.setLineDash([]);
      context.globalAlpha = 1;
    }
    near.forEach((i) => {
      const current = shown.neighbors[state.neighbor] === i;
      drawFrustum(context, project, s.database[i], 1.1 * s.size, colors.neighbor, {
        width: current ? 2.4 : 1.4, fill: 0.08, picture: image(s.thumbnails[i]),
      });
    });
    drawQuery(context, project, state.query, false, true);
  }

  function drawQuery(context, project, i, plain, chosen) {
    const s = scene();
    const truth = s.truth && s.truth[i];
    const estimate = method().cameras[i];
    const picture = chosen && s.pictures[i] ? image(s.pictures[i].thumbnail) : null;
    const style = chosen ? { width: 2.4 } : { width: 1.1, fill: 0.05, opacity: 0.9 };
    const size = chosen ? 1.4 * s.size : 0.8 * s.size;
    if (truth && estimate) {
      context.strokeStyle = colors.estimate;
      context.lineWidth = chosen ? 2.2 : 1.2;
      context.beginPath();
      line(context, project, truth.center, estimate.center);
      context.stroke();
    }
    for (const [camera, color] of [[truth, colors.truth], [estimate, colors.estimate]]) {
      if (!camera) continue;
      const shown = camera === estimate ? picture : null;
      if (!plain) drawFrustum(context, project, camera, size, color, { ...style, picture: shown });
      dot(context, project, camera.center, chosen ? 3.5 : 2, color);
    }
    if (truth && !estimate) cross(context, project, truth.center, colors.rejected);
  }

  function drawMaps() {
    for (const [id, projector] of [["top", topProjector], ["orbit", orbitProjector]]) {
      const { context, width, height } = fit(byId(id));
      const { project, scale } = projector(width, height);
      drawGrid(context, project);
      drawCameras(context, project);
      if (scale) drawScaleBar(context, scale, height);
    }
  }

  function nearest(canvas, projector, event) {
    const { project } = projector(canvas.clientWidth, canvas.clientHeight);
    const box = canvas.getBoundingClientRect();
    const at = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    const consider = (camera, kind, index, bonus) => {
      const p = camera && project(camera.center);
      if (!p) return;
      const away = Math.hypot(p[0] - at[0], p[1] - at[1]) - bonus;
      if (away < (best ? best.away : 12)) best = { away, kind, index };
    };
    method().cameras.forEach((c, i) => consider(c, "query", i, 3));
    if (scene().truth) scene().truth.forEach((c, i) => consider(c, "query", i, 3));
    scene().database.forEach((c, i) => consider(c, "database", i, 0));
    return best;
  }

  function watchMap(id, projector, drag) {
    const canvas = byId(id);
    let last = null;
    let moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      moved = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) {
        showTooltip(nearest(canvas, projector, event), event);
        return;
      }
      const dx = event.clientX - last[0];
      const dy = event.clientY - last[1];
      moved += Math.abs(dx) + Math.abs(dy);
      last = [event.clientX, event.clientY];
      drag(dx, dy);
      schedule();
    });
    canvas.addEventListener("pointerup", (event) => {
      const hit = moved < 4 && nearest(canvas, projector, event);
      if (hit && hit.kind === "query") selectQuery(hit.index);
      last = null;
    });
    canvas.addEventListener("pointerleave", () => showTooltip(null));
    canvas.addEventListener("dblclick", () => {
      resetViews();
      schedule();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const factor = Math.exp(0.0015 * event.deltaY);
      if (id === "top") views.top.scale /= factor;
      else views.orbit.distance *= factor;
      schedule();
    }, { passive: false });
  }

  function showTooltip(hit, event) {
    const tip = byId("tooltip");
    tip.hidden = !hit;
    if (!hit) return;
    const s = scene();
    tip.replaceChildren();
    if (hit.kind === "query") {
      tip.append(element("b", { textContent: s.queryNames[hit.index] }), element("div", { textContent: errorText(hit.index) }));
    } else {
      tip.append(element("b", { textContent: s.databaseNames[hit.index] }), element("div", { textContent: "database image" }));
    }
    const picture = hit.kind === "query" ? s.pictures[hit.index]?.thumbnail : s.thumbnails[hit.index];
    if (picture) tip.append(element("img", { src: picture, alt: "" }));
    const box = tip.getBoundingClientRect();
    tip.style.left = `${clamp(event.clientX + 14, 4, innerWidth - box.width - 4)}px`;
    tip.style.top = `${clamp(event.clientY + 14, 4, innerHeight - box.height - 4)}px`;
  }

  // ---- the chosen query

  function errorText(i) {
    const m = method();
    if (!m.success[i]) return "not localized";
    if (!scene().hasTruth) return m.positionStd[i] === null ? "localized" : `\u00b1 ${length(m.positionStd[i])}`;
    return `${length(m.positionErrors[i])}, ${angle(m.rotationErrors[i])}`;
  }

  function image(uri) {
    if (!images.has(uri)) {
      const loading = new Image();
      loading.addEventListener("load", schedule);
      loading.src = uri;
      images.set(uri, loading);
    }
    return images.get(uri);
  }

  function card(uri, name, text, pressed, failed, choose) {
    const node = element("button", { type: "button", className: "card", title: name });
    if (uri) node.append(element("img", { src: uri, alt: "", loading: "lazy" }));
    node.append(element("span", {}, name.split("/").pop(), element("br"), element("b", { textContent: text, className: failed ? "failed" : "" })));
    node.setAttribute("aria-pressed", pressed);
    node.addEventListener("click", choose);
    return node;
  }

  function showQueries() {
    const s = scene();
    const strip = byId("queries");
    const pictured = orderedQueries().filter((i) => s.pictures[i]);
    strip.replaceChildren(...pictured.map((i) => {
      const node = card(s.pictures[i].thumbnail, s.queryNames[i], errorText(i), i === state.query, !method().success[i], () => selectQuery(i));
      node.dataset.query = i;
      return node;
    }));
    const rest = s.queryNames.length - pictured.length;
    byId("pictured").textContent = rest
      ? `Pictures of ${pictured.length} of ${s.queryNames.length} queries, evenly chosen; the others are in the maps.`
      : "";
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
      facts.push(`${m.agreeing[i].reduce((a, b) => a + b, 0)} of ${m.agreeing[i].length} retrieved images agree`);
      if (m.positionStd[i] !== null) facts.push(`predicted \u00b1 ${length(m.positionStd[i])} (1 \u03c3)`);
    }
    byId("query-facts").textContent = facts.join("  \u00b7  ");
    for (const node of byId("queries").children) {
      const chosen = Number(node.dataset.query) === i;
      node.setAttribute("aria-pressed", chosen);
      if (chosen) {
        const strip = node.parentElement;
        strip.scrollLeft = clamp(strip.scrollLeft, node.offsetLeft + node.offsetWidth - strip.offsetLeft - strip.clientWidth, node.offsetLeft - strip.offsetLeft);
      }
    }
    showNeighbors();
  }

  function showNeighbors() {
    const s = scene();
    const shown = pictures();
    const strip = byId("neighbors");
    document.querySelector(".pair").hidden = !shown;
    strip.replaceChildren();
    if (!shown) return;
    const agreeing = method().agreeing[state.query];
    shown.neighbors.forEach((i, k) => {
      const matches = shown.matches && shown.matches[k];
      const parts = [matches ? `${matches.numInliers}/${matches.num}` : "", agreeing[k] ? "\u2713 agrees" : "disagrees"];
      strip.append(card(s.thumbnails[i], s.databaseNames[i], parts.filter(Boolean).join(" \u00b7 "), k === state.neighbor, !agreeing[k], () => {
        state.neighbor = k;
        showNeighbors();
        schedule();
      }));
    });
    const matches = shown.matches && shown.matches[state.neighbor];
    byId("pair-facts").textContent = matches
      ? `query and ${s.databaseNames[shown.neighbors[state.neighbor]]}: ${matches.numInliers} of ${matches.num} matches by ` +
        `${s.matchedBy} fit one relative pose; ${(matches.inliers.length + matches.rejected.length) / 4} are drawn`
      : "";
  }

  function drawMatches() {
    const shown = pictures();
    if (!shown) return;
    const canvas = byId("matches");
    const left = image(shown.thumbnail);
    const right = image(scene().thumbnails[shown.neighbors[state.neighbor]]);
    if (!left.naturalWidth || !right.naturalWidth) return;
    const gap = 10;
    const aspects = [left, right].map((picture) => picture.naturalWidth / picture.naturalHeight);
    const tall = Math.min(440, (canvas.clientWidth - gap) / (aspects[0] + aspects[1]));
    const { context, width } = fit(canvas, Math.round(tall));
    const widths = aspects.map((aspect) => aspect * tall);
    const x0 = (width - widths[0] - widths[1] - gap) / 2;
    const x1 = x0 + widths[0] + gap;
    context.drawImage(left, x0, 0, widths[0], tall);
    context.drawImage(right, x1, 0, widths[1], tall);
    const matches = shown.matches && shown.matches[state.neighbor];
    if (!matches) return;
    const stroke = (points, color, opacity) => {
      context.globalAlpha = opacity;
      context.strokeStyle = context.fillStyle = color;
      context.lineWidth = 1;
      context.beginPath();
      for (let i = 0; i < points.length; i += 4) {
        const a = [x0 + (points[i] / 1e4) * widths[0], (points[i + 1] / 1e4) * tall];
        const b = [x1 + (points[i + 2] / 1e4) * widths[1], (points[i + 3] / 1e4) * tall];
        context.moveTo(a[0], a[1]);
        context.lineTo(b[0], b[1]);
        context.rect(a[0] - 1.5, a[1] - 1.5, 3, 3);
        context.rect(b[0] - 1.5, b[1] - 1.5, 3, 3);
      }
      context.stroke();
      context.globalAlpha = 1;
    };
    if (byId("show-rejected").checked) stroke(matches.rejected, colors.rejected, 0.45);
    stroke(matches.inliers, colors.inlier, 0.85);
  }

  // ---- results

  function showTiles() {
    const s = scene();
    const m = method();
    const localized = m.success.reduce((a, b) => a + b, 0);
    const tiles = [
      ["database", s.database.length, "database images"],
      ["queries", s.queryNames.length, "queries"],
      ["localized", `${localized} of ${s.queryNames.length}`, "localized"],
    ];
    if (s.hasTruth) {
      tiles.push(["medianPosition", length(m.medianPosition), "median position error"]);
      tiles.push(["medianRotation", angle(m.medianRotation), "median rotation error"]);
      const [metres, degrees] = report.recallThresholds[1];
      tiles.push(["recall", percent(m.recalls[1]), `within ${rounded(metres)} and ${degrees}\u00b0`]);
    }
    byId("tiles").replaceChildren(...tiles.map(([id, value, text]) => {
      const node = element("div", { className: "tile" }, element("b", { textContent: value }), element("span", { textContent: text }));
      node.dataset.field = id;
      return node;
    }));
  }

  function showResults() {
    const s = scene();
    const head = ["method", "t", "r", ...report.recallThresholds.map(([t, r]) => `${rounded(t)}, ${r}\u00b0`), "failed"];
    const heads = s.hasTruth ? head : ["method", "localized", "failed"];
    const rows = s.methods.map((m, k) => {
      const failed = m.success.length - m.success.reduce((a, b) => a + b, 0);
      const cells = s.hasTruth
        ? [["medianPosition", length(m.medianPosition)], ["medianRotation", angle(m.medianRotation)], ...m.recalls.map((r, i) => [`recall${i}`, percent(r)])]
        : [["localized", m.success.length - failed]];
      const row = element("tr", { className: k === state.method ? "chosen" : "" }, element("td", { textContent: m.title }));
      row.dataset.method = m.key;
      for (const [field, text] of [...cells, ["failed", failed]]) {
        const cell = element("td", { textContent: text });
        cell.dataset.field = field;
        row.append(cell);
      }
      return row;
    });
    byId("results").replaceChildren(
      element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { textContent: text })))),
      element("tbody", {}, ...rows),
    );
  }

  function drawCurve(id, errors, low, high, ticks, label) {
    const { context, width, height } = fit(byId(id));
    const box = { left: 40, right: width - 20, top: 24, bottom: height - 26 };
    const x = (value) => box.left + ((Math.log10(value) - Math.log10(low)) / (Math.log10(high) - Math.log10(low))) * (box.right - box.left);
    const y = (share) => box.bottom - share * (box.bottom - box.top);
    context.strokeStyle = colors.grid;
    context.fillStyle = colors.muted;
    context.lineWidth = 1;
    context.beginPath();
    context.textAlign = "right";
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      context.moveTo(box.left, y(share));
      context.lineTo(box.right, y(share));
      context.fillText(percent(share), box.left - 6, y(share) + 4);
    }
    context.textAlign = "center";
    for (const [value, text] of ticks) {
      context.moveTo(x(value), box.top);
      context.lineTo(x(value), box.bottom);
      context.fillText(text, x(value), box.bottom + 15);
    }
    context.stroke();
    context.textAlign = "left";
    context.fillText(label, box.left, 14);
    errors.forEach((values, k) => {
      const sorted = values.filter((v) => v !== null).sort((a, b) => a - b);
      context.strokeStyle = colors[`series-${k % 4}`];
      context.lineWidth = k === state.method ? 2.6 : 1.5;
      context.beginPath();
      context.moveTo(box.left, y(0));
      let share = 0;
      for (let i = 0; i < sorted.length; i++) {
        const at = clamp(x(Math.max(sorted[i], low)), box.left, box.right);
        context.lineTo(at, y(share));
        if (sorted[i] > high) break;
        share = (i + 1) / values.length;
        context.lineTo(at, y(share));
      }
      context.lineTo(box.right, y(share));
      context.stroke();
    });
  }

  function drawCurves() {
    const s = scene();
    byId("curves-panel").hidden = !s.hasTruth;
    if (!s.hasTruth) return;
    const lengths = [[0.01, "1 cm"], [0.1, "10 cm"], [1, "1 m"], [10, "10 m"]];
    const angles = [[0.1, "0.1\u00b0"], [1, "1\u00b0"], [10, "10\u00b0"], [100, "100\u00b0"]];
    drawCurve("position-curve", s.methods.map((m) => m.positionErrors), 0.003, 10, lengths, "position error");
    drawCurve("rotation-curve", s.methods.map((m) => m.rotationErrors), 0.05, 180, angles, "rotation error");
  }

  function legend(entries) {
    return entries.map(([color, text]) => {
      const mark = element("i");
      mark.style.background = color;
      return element("span", {}, mark, text);
    });
  }

  function showLegends() {
    const entries = [["var(--database)", "database camera"], ["var(--neighbor)", "retrieved for the chosen query"]];
    if (scene().hasTruth) entries.push(["var(--truth)", "query, true pose"]);
    entries.push(["var(--estimate)", scene().hasTruth ? "query, estimated pose, joined to the truth" : "query, estimated pose"]);
    if (scene().hasTruth) entries.push(["var(--rejected)", "not localized (cross)"]);
    byId("legend").replaceChildren(...legend(entries));
    byId("curve-legend").replaceChildren(...legend(scene().methods.map((m, k) => [`var(--series-${k % 4})`, m.title])));
  }

  // ---- what is chosen

  function selectQuery(i) {
    state.query = i;
    state.neighbor = 0;
    showQuery();
    schedule();
  }

  function step(by) {
    const order = orderedQueries();
    selectQuery(order[(order.indexOf(state.query) + by + order.length) % order.length]);
  }

  function selectMethod(k) {
    state.method = k;
    [...byId("method").children].forEach((node, i) => node.setAttribute("aria-pressed", i === k));
    showAll();
  }

  function selectScene(k) {
    state.scene = k;
    const preferred = scene().methods.findIndex((m) => m.key === "network");
    state.method = Math.max(0, preferred);
    byId("method").replaceChildren(...scene().methods.map((m, i) => {
      const node = element("button", { type: "button", textContent: m.title });
      node.addEventListener("click", () => selectMethod(i));
      return node;
    }));
    byId("method").hidden = scene().methods.length < 2;
    const first = Object.keys(scene().pictures).map(Number)[0];
    state.query = first ?? 0;
    state.neighbor = 0;
    resetViews();
    selectMethod(state.method);
  }

  function showAll() {
    showTiles();
    showLegends();
    showQueries();
    showQuery();
    showResults();
    schedule();
  }

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      drawMaps();
      drawMatches();
      drawCurves();
      document.documentElement.dataset.drawn = Number(document.documentElement.dataset.drawn || 0) + 1;
    });
  }

  function start() {
    byId("title").textContent = report.title;
    const count = (values) => values.reduce((a, b) => a + b, 0);
    byId("subtitle").textContent =
      `${count(scenes.map((s) => s.queryNames.length))} queries against ${count(scenes.map((s) => s.database.length))} database images` +
      (scenes.length > 1 ? ` in ${scenes.length} scenes` : "");
    byId("scene").append(...scenes.map((s, i) => element("option", { value: i, textContent: s.name })));
    byId("scene-control").hidden = scenes.length < 2;
    for (const [name, value] of Object.entries(report.settings)) {
      byId("settings").append(element("dt", { textContent: name }), element("dd", { textContent: value }));
    }
    byId("scene").addEventListener("change", (event) => selectScene(Number(event.target.value)));
    byId("order").addEventListener("change", (event) => {
      state.order = event.target.value;
      showQueries();
      selectQuery(orderedQueries().find((i) => scene().pictures[i]) ?? 0);
    });
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    byId("show-rejected").addEventListener("change", schedule);
    addEventListener("keydown", (event) => {
      if (event.target.matches("select, input, button") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    });
    watchMap("top", topProjector, (dx, dy) => {
      views.top.x -= dx / views.top.scale;
      views.top.y += dy / views.top.scale;
    });
    watchMap("orbit", orbitProjector, (dx, dy) => {
      views.orbit.yaw -= 0.008 * dx;
      views.orbit.pitch = clamp(views.orbit.pitch + 0.008 * dy, -1.5, 1.5);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      colors = readColors();
      schedule();
    });
    addEventListener("resize", schedule);
    selectScene(0);
  }

  start();
})();
