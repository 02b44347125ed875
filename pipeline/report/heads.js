"use strict";
(() => {
const $ = selector => document.querySelector(selector);
const all = selector => [...document.querySelectorAll(selector)];
const data = JSON.parse($("#data").textContent);

function unpack(text, Kind) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Kind(bytes.buffer);
}

// ---- Geometry, the same for all heads
const uvVertex = unpack(data.uvVertex, Uint16Array);
const uv = unpack(data.uv, Uint16Array);
const targets = {};
for (const [name, target] of Object.entries(data.targets))
  targets[name] = { rows: unpack(target.rows, Uint16Array), offsets: unpack(target.offsets, Int16Array) };
const triangles = [], edges = [], parts = [];
for (const part of data.parts) {
  const quads = unpack(part.quads, Uint16Array), firstTriangle = triangles.length, firstEdge = edges.length;
  for (let q = 0; q < quads.length; q += 4) {
    const [a, b, c, d] = quads.subarray(q, q + 4);
    triangles.push(a, b, c);
    edges.push(a, b, b, c);
    if (c !== d) { triangles.push(a, c, d); edges.push(c, d, d, a); } else edges.push(c, a);
  }
  parts.push({ firstTriangle, triangleCount: triangles.length - firstTriangle,
               firstEdge, edgeCount: edges.length - firstEdge });
}

function addTargets(points, weights, sign) {
  for (const [name, weight] of Object.entries(weights)) {
    if (!weight || !targets[name]) continue;
    const { rows, offsets } = targets[name], factor = sign * weight / data.perCm;
    for (let i = 0; i < rows.length; i++)
      for (let k = 0; k < 3; k++) points[3 * rows[i] + k] += factor * offsets[3 * i + k];
  }
  return points;
}

function normalsOf(points) {
  const normals = new Float32Array(points.length);
  for (let t = 0; t < triangles.length; t += 3) {
    const a = 3 * uvVertex[triangles[t]], b = 3 * uvVertex[triangles[t + 1]], c = 3 * uvVertex[triangles[t + 2]];
    const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
    const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    for (const corner of [a, b, c]) { normals[corner] += x; normals[corner + 1] += y; normals[corner + 2] += z; }
  }
  return normals;
}

function split(values) {
  const result = new Float32Array(3 * uvVertex.length);
  for (let i = 0; i < uvVertex.length; i++)
    for (let k = 0; k < 3; k++) result[3 * i + k] = values[3 * uvVertex[i] + k];
  return result;
}

// ---- WebGL: one context draws every picture
const canvas = document.createElement("canvas");
const gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true,
                                         preserveDrawingBuffer: true });
if (!gl) { $("#broken").hidden = false; return; }

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in vec2 uv;
uniform mat3 rotation; uniform vec3 translation; uniform vec4 lens; uniform vec2 size; uniform float lift;
out vec3 vPoint; out vec3 vNormal; out vec2 vUv;
void main() {
  vec3 p = rotation * position + translation;
  vPoint = p; vNormal = rotation * normal; vUv = uv;
  float depth = -p.z, near = 5.0, far = 1000.0;
  // Pixel centres are integers: pixel u lies at (2 u + 1) / size - 1; y points down in pixels, up here.
  vec2 middle = (2.0 * lens.xy + 1.0) / size - 1.0;
  gl_Position = vec4(vec2(middle.x, -middle.y) * depth, 0.0, depth);
  gl_Position.xy += 2.0 * lens.zw * p.xy / size;
  gl_Position.z = depth * (far + near) / (far - near) - 2.0 * far * near / (far - near) - lift;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 vPoint; in vec3 vNormal; in vec2 vUv;
uniform sampler2D picture; uniform sampler2D bumps; uniform vec3 colour; uniform vec3 light;
uniform bool hasPicture; uniform bool hasBumps; uniform int mode; uniform bool wire; uniform float roughness;
out vec4 pixel;
vec3 linear(vec3 c) { return pow(c, vec3(2.2)); }
void main() {
  if (wire) { pixel = vec4(0.08, 0.09, 0.12, 0.55) * vec4(vec3(0.55), 1.0); return; }
  vec3 n = normalize(vNormal);
  if (hasBumps) {
    // Tangent along u, perpendicular to the normal; green is up, and v runs down in the picture.
    vec3 px = dFdx(vPoint), py = dFdy(vPoint); vec2 ux = dFdx(vUv), uy = dFdy(vUv);
    vec3 t = (px * uy.y - py * ux.y) * sign(ux.x * uy.y - ux.y * uy.x);
    t = t - n * dot(n, t);
    if (dot(t, t) > 0.0) {
      t = normalize(t);
      vec3 b = texture(bumps, vUv).xyz * 2.0 - 1.0;
      n = normalize(b.x * t + b.y * cross(n, t) + b.z * n);
    }
  }
  if (mode == 2) { pixel = vec4((n + 1.0) / 2.0, 1.0); return; }
  vec3 albedo = mode == 1 ? vec3(0.55) : hasPicture ? linear(texture(picture, vUv).rgb) : colour;
  vec3 eye = normalize(-vPoint), half_ = normalize(light + eye);
  float key = max(dot(n, light), 0.0), sky = 0.5 + 0.5 * n.y;
  float shine = pow(max(dot(n, half_), 0.0), mix(60.0, 14.0, roughness)) * (mode == 1 ? 0.08 : 0.05);
  vec3 lit = mode == 1 ? albedo * (0.95 * key + 0.22 + 0.12 * sky) : albedo * (0.75 * key + 0.35 + 0.25 * sky);
  pixel = vec4(pow(lit + shine * key, vec3(1.0 / 2.2)), 1.0);
}`;

function program() {
  const result = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(result, shader);
  }
  gl.linkProgram(result);
  if (!gl.getProgramParameter(result, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(result));
  return result;
}
const shader = program();
gl.useProgram(shader);
const uniform = name => gl.getUniformLocation(shader, name);
const uniforms = Object.fromEntries(["rotation", "translation", "lens", "size", "lift", "picture", "bumps", "colour",
  "light", "hasPicture", "hasBumps", "mode", "wire", "roughness"].map(name => [name, uniform(name)]));

function attribute(name, width, kind, normalised) {
  const buffer = gl.createBuffer(), at = gl.getAttribLocation(shader, name);
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, width, kind, normalised, 0, 0);
  return values => { gl.bindBuffer(gl.ARRAY_BUFFER, buffer); gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW); };
}
const setPosition = attribute("position", 3, gl.FLOAT, false);
const setNormal = attribute("normal", 3, gl.FLOAT, false);
const flipped = uv.slice();
for (let i = 1; i < flipped.length; i += 2) flipped[i] = 65535 - flipped[i];
attribute("uv", 2, gl.UNSIGNED_SHORT, true)(flipped);
const indexBuffer = gl.createBuffer();
gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, indexBuffer);
gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint16Array([...triangles, ...edges]), gl.STATIC_DRAW);

function textureOf(address) {
  const texture = gl.createTexture(), image = new Image();
  image.onload = () => {
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    for (const way of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, way, gl.CLAMP_TO_EDGE);
    waiting--;
    redraw();
  };
  waiting++;
  image.src = address;
  return texture;
}

// ---- State
let waiting = 0, head = null, weights = {}, yaw = 0, pitch = 0, near = 1, mode = 0, phase = 0, moment = null;
const on = id => $(id).getAttribute("aria-pressed") === "true";
const loaded = new Map();

function show(number) {
  const source = data.heads[number];
  if (!loaded.has(number)) {
    const fitted = Float32Array.from(unpack(source.vertices, Int16Array), value => value / data.perCm);
    loaded.set(number, {
      ...source,
      neutral: addTargets(fitted, source.weights, -1),
      looks: source.looks.map(look => ({ ...look, picture: look.texture && textureOf(look.texture),
                                         bumps: look.normals && textureOf(look.normals) })),
    });
  }
  head = loaded.get(number);
  weights = { ...source.weights };
  const photo = $("#photo");
  photo.src = all(".strip img")[number].src;
  photo.width = source.size[0];
  photo.height = source.size[1];
  photo.alt = source.name;
  all(".strip button").forEach((button, i) => button.setAttribute("aria-pressed", String(i === number)));
  all("[data-facts]").forEach((facts, i) => { facts.hidden = i !== number; });
  reshape();
}

let centre = [0, 0, 0], extent = 20;
function reshape() {
  const points = addTargets(head.neutral.slice(), weights, 1);
  const low = [1e9, 1e9, 1e9], high = [-1e9, -1e9, -1e9];
  for (const vertex of uvVertex) for (let k = 0; k < 3; k++) {
    low[k] = Math.min(low[k], head.neutral[3 * vertex + k]);
    high[k] = Math.max(high[k], head.neutral[3 * vertex + k]);
  }
  centre = low.map((value, k) => (value + high[k]) / 2);
  extent = high[1] - low[1];
  setPosition(split(points));
  setNormal(split(normalsOf(points)));
  for (const slider of all("[data-target]")) {
    const weight = weights[slider.dataset.target] || 0;
    slider.value = weight;
    slider.nextElementSibling.textContent = String(Math.round(100 * weight) / 100);
  }
  redraw();
}

function paint(target, width, height, camera, style) {
  if (target.width !== width) target.width = width;
  if (target.height !== height) target.height = height;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  gl.viewport(0, 0, width, height);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.enable(gl.DEPTH_TEST);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  gl.uniformMatrix3fv(uniforms.rotation, true, camera.rotation);
  gl.uniform3fv(uniforms.translation, camera.translation);
  gl.uniform4f(uniforms.lens, camera.centre[0], camera.centre[1], camera.focal, camera.focal);
  gl.uniform2f(uniforms.size, camera.size[0], camera.size[1]);
  gl.uniform1i(uniforms.mode, style.mode);
  gl.uniform1i(uniforms.picture, 0);
  gl.uniform1i(uniforms.bumps, 1);
  const angle = Number($("#light").value) * Math.PI / 180;
  const light = [0.85 * Math.sin(angle), 0.45, 0.85 * Math.cos(angle)], length = Math.hypot(...light);
  gl.uniform3fv(uniforms.light, light.map(value => value / length));
  parts.forEach((part, i) => {
    const look = head.looks[i];
    gl.uniform1i(uniforms.wire, 0);
    gl.uniform1f(uniforms.lift, 0);
    gl.uniform3fv(uniforms.colour, look.colour);
    gl.uniform1f(uniforms.roughness, look.roughness);
    gl.uniform1i(uniforms.hasPicture, look.picture ? 1 : 0);
    gl.uniform1i(uniforms.hasBumps, look.bumps && style.details ? 1 : 0);
    for (const [unit, texture] of [[gl.TEXTURE0, look.picture], [gl.TEXTURE1, look.bumps]]) {
      gl.activeTexture(unit);
      gl.bindTexture(gl.TEXTURE_2D, texture || null);
    }
    gl.activeTexture(gl.TEXTURE0);
    gl.drawElements(gl.TRIANGLES, part.triangleCount, gl.UNSIGNED_SHORT, 2 * part.firstTriangle);
    if (style.wire) {
      gl.uniform1i(uniforms.wire, 1);
      gl.uniform1f(uniforms.lift, 0.05);
      gl.drawElements(gl.LINES, part.edgeCount, gl.UNSIGNED_SHORT, 2 * (triangles.length + part.firstEdge));
    }
  });
  const context = target.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.drawImage(canvas, 0, 0);
}

function draw() {
  moment = null;
  const ratio = Math.min(devicePixelRatio || 1, 2), view = $("#view"), over = $("#over");
  const width = Math.max(1, Math.round(view.clientWidth * ratio)), height = Math.max(1, Math.round(view.clientHeight * ratio));
  const swing = yaw + (on("#turn") ? 0.75 * Math.sin(phase) : 0);
  const [cy, sy, cp, sp] = [Math.cos(swing), Math.sin(swing), Math.cos(pitch), Math.sin(pitch)];
  const rotation = [cy, 0, sy, sp * sy, cp, -sp * cy, -cp * sy, sp, cp * cy];
  const distance = 3.2 * extent / near;
  const translation = [0, 1, 2].map(k => -(rotation[3 * k] * centre[0] + rotation[3 * k + 1] * centre[1] + rotation[3 * k + 2] * centre[2]));
  translation[2] -= distance;
  paint(view, width, height, { rotation, translation, size: [width, height], focal: 0.94 * 3.2 * height,
                               centre: [(width - 1) / 2, (height - 1) / 2] },
        { mode, details: on("#details"), wire: on("#wire") });
  const shown = Math.max(1, Math.round(over.clientWidth * ratio));
  paint(over, shown, Math.max(1, Math.round(shown * head.size[1] / head.size[0])), head, { mode, details: on("#details"), wire: on("#wire") });
  over.style.opacity = $("#opacity").value;
  document.documentElement.dataset.drawn = waiting ? "" : "yes";
}

let last = 0;
function redraw() {
  if (moment === null) moment = requestAnimationFrame(now => {
    if (on("#turn")) phase += Math.min(0.05, (now - last) / 1000);
    last = now;
    draw();
    if (on("#turn")) redraw();
  });
}

// ---- Controls
function toggle(id) {
  $(id).addEventListener("click", () => { $(id).setAttribute("aria-pressed", String(!on(id))); redraw(); });
}
["#details", "#wire", "#turn"].forEach(toggle);
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) $("#turn").setAttribute("aria-pressed", "true");
function still() { $("#turn").setAttribute("aria-pressed", "false"); }
function rest() { if (on("#turn")) { yaw += 0.75 * Math.sin(phase); phase = 0; still(); } }
function look(right, up) {
  rest();
  yaw = (yaw + right) % (2 * Math.PI);
  pitch = Math.max(-1.4, Math.min(1.4, pitch + up));
  redraw();
}
function zoom(factor) { near = Math.max(0.6, Math.min(6, near * factor)); redraw(); }
const view = $("#view");
view.addEventListener("keydown", event => {
  const act = { ArrowLeft: () => look(-0.12, 0), ArrowRight: () => look(0.12, 0), ArrowUp: () => look(0, -0.1),
                ArrowDown: () => look(0, 0.1), "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15) }[event.key];
  if (act) { event.preventDefault(); act(); }
});
view.addEventListener("pointerdown", event => { view.setPointerCapture(event.pointerId); rest(); });
view.addEventListener("pointermove", event => {
  if (view.hasPointerCapture(event.pointerId)) look(event.movementX * 0.008, event.movementY * 0.006);
});
view.addEventListener("wheel", event => {
  if (!event.ctrlKey && document.activeElement !== view) return;  // a page that scrolls stays one
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * 0.0012));
}, { passive: false });
$("#front").addEventListener("click", () => { still(); yaw = pitch = phase = 0; near = 1; redraw(); });
all("input[name=mode]").forEach((input, i) => input.addEventListener("change", () => { mode = i; redraw(); }));
for (const id of ["#light", "#opacity"]) $(id).addEventListener("input", redraw);
all("[data-target]").forEach(slider => slider.addEventListener("input", () => {
  weights[slider.dataset.target] = Number(slider.value);
  reshape();
}));
$("#fitted").addEventListener("click", () => { weights = { ...head.weights }; reshape(); });
$("#neutral").addEventListener("click", () => { weights = {}; reshape(); });
all(".strip button").forEach((button, i) => button.addEventListener("click", () => show(i)));
addEventListener("resize", redraw);
show(0);
})();
