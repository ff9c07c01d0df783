// The page: asks the server where a picture was taken, and shows it. Names are set as text only.
"use strict";

const $ = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const path = (...parts) => parts.map(encodeURIComponent).join("/");
let cameras = null; // of the chosen map
let asked = 0; // pictures so far: an answer to an earlier one is not shown

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  const body = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) throw new Error(body.error);
  return body;
}

function say(text, problem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", problem);
}

// --- The map ---------------------------------------------------------------------------------

async function start() {
  const maps = await ask("maps");
  for (const { name } of maps) $("map").add(new Option(name, name));
  await showMap();
}

async function showMap() {
  const name = $("map").value;
  asked++;
  $("answer").hidden = $("neighbors-box").hidden = true;
  say("The map is being opened.");
  const found = await ask(`maps/${path(name)}/cameras`);
  if (name !== $("map").value) return;
  cameras = found;
  draw(null);
  say(`${found.names.length} cameras of the map are shown.`);
}

// A point of the world in axes whose z is up.
const upright = (p) => cameras.upright_from_world.map((row) => row[0] * p[0] + row[1] * p[1] + row[2] * p[2]);
const centre = (pose) => [pose[3], pose[7], pose[11]];

// The outline of a camera: its centre and the corners of its picture at a depth.
function frustum(pose, [left, top, right, bottom], depth) {
  const corner = (x, y) =>
    upright([0, 1, 2].map((i) => pose[4 * i + 3] + depth * (pose[4 * i] * x + pose[4 * i + 1] * y + pose[4 * i + 2])));
  const c = upright(centre(pose));
  const [a, b, d, e] = [corner(left, top), corner(right, top), corner(right, bottom), corner(left, bottom)];
  return [c, a, b, c, d, e, c, null, a, e, null, b, d, null];
}

function lines(points, name, shade, width) {
  const axis = (i) => points.map((p) => (p ? p[i] : null));
  return {
    type: "scatter3d", mode: "lines", name, x: axis(0), y: axis(1), z: axis(2),
    line: { color: shade, width }, hoverinfo: "skip", showlegend: false,
  };
}

function dots(points, shade, size, text) {
  return {
    type: "scatter3d", mode: "markers", x: points.map((p) => p[0]), y: points.map((p) => p[1]), z: points.map((p) => p[2]),
    marker: { color: shade, size }, text, hoverinfo: text ? "text" : "skip", showlegend: false,
  };
}

function draw(found) {
  const centres = cameras.poses.map((pose) => upright(centre(pose)));
  const spread = Math.max(...[0, 1, 2].map((i) => Math.max(...centres.map((p) => p[i])) - Math.min(...centres.map((p) => p[i]))));
  const depth = 0.06 * (spread || 1);
  const escaped = cameras.names.map((name) => name.replace(/[<>&]/g, " "));
  const traces = [dots(centres, color("camera"), 3, escaped)];
  if (cameras.points.length) {
    const shades = cameras.colors.map((c) => `rgb(${c.join(",")})`);
    traces.push(dots(cameras.points.map(upright), shades, 1.6));
  }
  const agree = new Set((found?.neighbors ?? []).filter((n) => n.agrees).map((n) => n.image));
  const isNear = cameras.names.map((name) => agree.has(name));
  const frusta = (wanted) => cameras.poses.flatMap((pose, i) => (isNear[i] === wanted ? frustum(pose, cameras.tangents[i], depth) : []));
  if (cameras.names.length <= 500) traces.push(lines(frusta(false), "map", color("camera"), 1));
  traces.push(lines(frusta(true), "neighbours", color("neighbor"), 3));
  if (found?.success) {
    const k = found.camera;
    const tangents = [(-0.5 - k.cx) / k.fx, (-0.5 - k.cy) / k.fy, (k.width - 0.5 - k.cx) / k.fx, (k.height - 0.5 - k.cy) / k.fy];
    const pose = found.world_from_cam.slice(0, 3).flat();
    traces.push(lines(frustum(pose, tangents, 1.8 * depth), "picture", color("query"), 6));
    traces.push(dots([upright(centre(pose))], color("query"), 6, ["your picture"]));
  }
  const axis = { title: { text: "" }, color: color("muted"), gridcolor: color("grid"), showbackground: false, zeroline: false };
  const scene = { aspectmode: "data", xaxis: axis, yaxis: axis, zaxis: axis };
  const layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", scene, uirevision: $("map").value };
  Plotly.react("view", traces, layout, { displaylogo: false, displayModeBar: false, responsive: true });
}

// --- A picture -------------------------------------------------------------------------------

async function localize(file) {
  const number = ++asked;
  const form = new FormData();
  form.append("picture", file);
  form.append("matches", "true");
  $("answer").hidden = $("neighbors-box").hidden = true;
  URL.revokeObjectURL($("picture").src);
  $("picture").hidden = true;
  say("Localizing …");
  const begin = performance.now();
  const found = await ask(`maps/${path($("map").value)}/localize`, { method: "POST", body: form });
  if (number !== asked) return;
  $("picture").src = URL.createObjectURL(file);
  $("picture").hidden = false;
  say(`Answered in ${((performance.now() - begin) / 1000).toFixed(1)} s.`);
  show(found);
  draw(found);
  await showNeighbors(found, number);
}

function show(found) {
  $("answer").hidden = false;
  $("verdict").textContent = found.success ? "The picture is localized" : "The picture is not localized";
  $("verdict").className = found.success ? "yes" : "no";
  $("meaning").textContent = found.success ? meaning(found.confidence) : refusal(found.reason);
  $("pose-box").hidden = !found.success;
  $("facts").replaceChildren();
  const fact = (name, value) => {
    for (const [tag, text] of [["dt", name], ["dd", value]]) {
      $("facts").append(Object.assign(document.createElement(tag), { textContent: text }));
    }
  };
  if (found.success) {
    const c = found.covariance_world;
    fact("Confidence", `${(100 * found.confidence).toFixed(1)}%`);
    fact("Place", found.world_from_cam.slice(0, 3).map((row) => row[3].toFixed(3)).join(", "));
    fact("Deviation", `${Math.sqrt(c[3][3] + c[4][4] + c[5][5]).toPrecision(2)} and ${((Math.sqrt(c[0][0] + c[1][1] + c[2][2]) * 180) / Math.PI).toPrecision(2)}°`);
    fact("Neighbours", `${found.num_inliers} of ${found.num_neighbors} agree`);
    if (found.turn_deg) fact("Turned", `by ${found.turn_deg}°, to be recognized`);
    $("pose").value = found.world_from_cam.map((row) => row.join(" ")).join("\n");
  }
  const sources = { given: "as given", exif: "from the file's EXIF", map: "not in the file; taken to be as the map's" };
  const isFound = found.success && found.focal_px;
  const origin = isFound ? `found with the place, to ${(100 * found.focal_deviation).toPrecision(2)}%` : sources[found.camera.source];
  fact("Focal length", `${found.camera.fx.toFixed(0)} px, ${origin}`);
}

function meaning(confidence) {
  const share = Math.min(99, Math.floor(100 * confidence));
  const word = confidence > 0.95 ? "Very likely right" : confidence > 0.8 ? "Probably right" : "Doubtful";
  return `${word}: of 100 answers with this confidence, about ${share} lie within 50 cm and 10 degrees of the truth, if the map is in metres and half of the pictures are of other places.`;
}

const refusal = (reason) =>
  `No pose is given rather than a wrong one${reason ? `: ${reason}` : ""}. Take the picture in the mapped place, sharp, level, and with more of the surroundings in it.`;

// --- The neighbours --------------------------------------------------------------------------

const loaded = (image) => new Promise((resolve, reject) => {
  image.onload = () => resolve(image);
  image.onerror = () => reject(new Error("a picture of the map cannot be shown"));
});

async function showNeighbors(found, number) {
  const query = new Image();
  query.src = $("picture").src;
  await loaded(query);
  const figures = await Promise.all(found.neighbors.map((neighbor) => figure(found, neighbor, query)));
  if (number !== asked) return;
  $("neighbors").replaceChildren(...figures);
  $("neighbors-box").hidden = !figures.length;
}

async function figure(found, neighbor, query) {
  const image = new Image();
  image.src = `maps/${path(found.map)}/images/${path(...neighbor.image.split("/"))}`;
  await loaded(image);
  const [canvas, gap, height] = [document.createElement("canvas"), 8, 360];
  const widths = [query, image].map((x) => Math.round((height * x.naturalWidth) / x.naturalHeight));
  canvas.width = widths[0] + gap + widths[1];
  canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.drawImage(query, 0, 0, widths[0], height);
  pen.drawImage(image, widths[0] + gap, 0, widths[1], height);
  const matches = neighbor.matches;
  pen.lineWidth = 1.5;
  (matches?.lines ?? []).toReversed().forEach(([xq, yq, xd, yd], i) => {
    const agrees = matches.lines.length - 1 - i < matches.num_drawn_agreeing;
    pen.strokeStyle = color(agrees ? "right" : "wrong");
    pen.globalAlpha = agrees ? 0.8 : 0.35;
    pen.beginPath();
    pen.moveTo(xq * widths[0], yq * height);
    pen.lineTo(widths[0] + gap + xd * widths[1], yd * height);
    pen.stroke();
  });
  const caption = document.createElement("figcaption");
  const count = matches ? `: ${matches.num_agreeing} of ${matches.num} matches agree` : neighbor.agrees ? ": agrees" : "";
  caption.textContent = neighbor.image + count;
  const element = document.createElement("figure");
  element.append(canvas, caption);
  return element;
}

// --- What the visitor does -------------------------------------------------------------------

const complain = (error) => say(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`, true);
const take = (file) => file && localize(file).catch(complain);

$("map").addEventListener("change", () => showMap().catch(complain));
for (const id of ["file", "camera"]) {
  $(id).addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = ""; // the same picture may be chosen again
  });
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
$("copy").addEventListener("click", async () => {
  $("pose").select();
  try {
    await navigator.clipboard.writeText($("pose").value);
  } catch {
    document.execCommand("copy"); // clipboards are for secure pages
  }
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy the pose"), 1500);
});
start().catch(complain);
