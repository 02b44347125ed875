"use strict";
// Relights the faces of the page: Lambert and Blinn-Phong per pixel on the normals, on plain 2D canvases,
// and only on those that are in view. Vectors: x right, y up, z to the viewer.
(() => {
  const $ = (selector) => document.querySelector(selector);
  $("#theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  if (!$(".card")) return;

  const CARD_SIZE = 256, LARGE_SIZE = 640, DIAL_SIZE = 112;
  const FRAME_MS = 33, ORBIT_MS = 60000;
  const CLAY = [0.56, 0.46, 0.4];
  const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const state = { light: [-0.45, 0.5, 0.74], mode: "clay", orbiting: !reduced, since: null };

  // ---- Shading ----------------------------------------------------------------------------------------

  const toLinear = Float32Array.from({ length: 256 }, (_, i) => {
    const v = i / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  });
  const TONES = 4096;
  const toPixel = Uint8ClampedArray.from({ length: TONES }, (_, i) => {
    const v = (i / (TONES - 1)) * 2;
    const soft = v < 0.7 ? v : 0.7 + 0.3 * (1 - Math.exp((0.7 - v) / 0.3)); // highlights roll off
    return 255 * (soft <= 0.0031308 ? soft * 12.92 : 1.055 * soft ** (1 / 2.4) - 0.055);
  });
  const pixelOf = (linear) => toPixel[Math.min(TONES - 1, (linear * (TONES - 1)) / 2) | 0];
  const POWERS = 1024;
  const shine = Float32Array.from({ length: POWERS }, (_, i) => (i / (POWERS - 1)) ** 36);

  // A surface holds only the pixels that the mask keeps: their place, coverage, normal and colour.
  function surface(size, normals, crop, signs, light) {
    const at = [], alpha = [];
    const clamp = (v) => Math.min(size - 1, Math.max(0, v));
    for (let i = 0; i < size * size; i++) {
      if (!normals[4 * i + 3]) continue;
      const x = i % size, y = (i - x) / size;
      let sum = 0; // the mean of 3x3 pixels of a hard mask makes its edge soft, inwards
      for (let v = y - 1; v <= y + 1; v++) for (let u = x - 1; u <= x + 1; u++) sum += normals[4 * (clamp(v) * size + clamp(u)) + 3];
      const covered = Math.min(1, Math.max(0, (sum / (9 * 255) - 0.45) / 0.5));
      if (covered > 0) { at.push(i); alpha.push(255 * covered); }
    }
    const n = new Float32Array(3 * at.length), colour = new Float32Array(3 * at.length);
    at.forEach((i, k) => {
      let x = signs[0] * (normals[4 * i] / 127.5 - 1), y = signs[1] * (normals[4 * i + 1] / 127.5 - 1),
        z = signs[2] * (normals[4 * i + 2] / 127.5 - 1);
      const length = Math.hypot(x, y, z) || 1;
      x /= length; y /= length; z /= length;
      n.set([x, y, z], 3 * k);
      if (!crop) return;
      const basis = [1, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1];
      const shading = basis.reduce((sum, value, j) => sum + value * light[j], 0);
      for (let c = 0; c < 3; c++) colour[3 * k + c] = toLinear[crop[4 * i + c]] / Math.min(3, Math.max(0.35, shading));
    });
    return { size, at: Uint32Array.from(at), alpha: Uint8ClampedArray.from(alpha), n, colour: crop ? colour : null };
  }

  function shade(context, { size, at, alpha, n, colour }, [lx, ly, lz], mode) {
    const image = context.createImageData(size, size), out = image.data;
    const h = Math.hypot(lx, ly, lz + 1), hx = lx / h, hy = ly / h, hz = (lz + 1) / h; // the viewer is at z
    const photo = mode === "colour" && colour, gloss = photo ? 0.12 : 0.2;
    for (let k = 0; k < at.length; k++) {
      const x = n[3 * k], y = n[3 * k + 1], z = n[3 * k + 2], o = 4 * at[k];
      out[o + 3] = alpha[k];
      if (mode === "normals") {
        out[o] = 127.5 * (x + 1); out[o + 1] = 127.5 * (y + 1); out[o + 2] = 127.5 * (z + 1);
        continue;
      }
      const facing = Math.max(0, x * lx + y * ly + z * lz);
      const glint = facing && gloss * shine[(Math.max(0, x * hx + y * hy + z * hz) * (POWERS - 1)) | 0];
      const sky = 0.07 + 0.035 * y;
      for (let c = 0; c < 3; c++) {
        const base = photo ? 1.25 * colour[3 * k + c] : CLAY[c];
        const warm = 1.04 - 0.04 * c; // a warm lamp under a cool sky
        out[o + c] = pixelOf(base * (sky * (0.8 + 0.25 * c) + 1.1 * warm * facing) + glint);
      }
    }
    context.putImageData(image, 0, 0);
  }

  // ---- Pictures to surfaces ---------------------------------------------------------------------------

  // Pixels come and go every frame: the canvas had better be in the processor's memory.
  const contextOf = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

  function pixels(image, size) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const context = contextOf(canvas);
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, size, size);
    return context.getImageData(0, 0, size, size).data;
  }

  async function surfaceOf(card, size) {
    const [normals, crop] = ["normals", "crop"].map((name) => card.querySelector(`.${name} img`));
    normals.loading = crop.loading = "eager";
    await Promise.all([normals.decode(), crop.decode()]);
    const numbers = (text) => text.split(" ").map(Number);
    return surface(size, pixels(normals, size), pixels(crop, size), numbers(card.dataset.signs), numbers(card.dataset.light));
  }

  function ball(size) {
    const data = new Uint8ClampedArray(4 * size * size);
    for (let i = 0; i < size * size; i++) {
      const x = ((i % size) + 0.5) / (size / 2) - 1, y = 1 - (Math.floor(i / size) + 0.5) / (size / 2), r = x * x + y * y;
      if (r < 0.96) data.set([x, y, Math.sqrt(1 - r)].map((v) => 127.5 * (v + 1)).concat(255), 4 * i);
    }
    return surface(size, data, null, [1, 1, 1], []);
  }

  // Some browsers add noise to what a page reads from a canvas: relighting would show that noise.
  function canReadPixels() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 16;
    const context = contextOf(canvas);
    context.fillStyle = "rgb(90,140,200)";
    context.fillRect(0, 0, 16, 16);
    return context.getImageData(0, 0, 16, 16).data.every((v, i) => v === [90, 140, 200, 255][i % 4]);
  }

  // ---- What is drawn, and when ------------------------------------------------------------------------

  const lit = new Map(); // canvas -> { context, surface } of what is in view
  let pending = false, drawnAt = 0;

  function redraw() {
    if (!pending) { pending = true; requestAnimationFrame(frame); }
  }

  function frame(now) {
    pending = false;
    if (state.orbiting) {
      if (now - drawnAt < FRAME_MS - 4) return redraw();
      state.since ??= now;
      const turn = (now - state.since) / 2600 + 2.4;
      setLight(0.68 * Math.cos(turn), 0.2 + 0.5 * Math.sin(turn));
      if (now - state.since > ORBIT_MS) setOrbit(false); // nobody is looking
    }
    drawnAt = now;
    lit.forEach(({ context, surface }) => surface && shade(context, surface, state.light, state.mode));
    if (dialSurface) shade(dialContext, dialSurface, state.light, "clay");
  }

  function setLight(x, y) {
    const r = Math.hypot(x, y), most = 0.96;
    if (r > most) { x *= most / r; y *= most / r; }
    state.light = [x, y, Math.sqrt(1 - x * x - y * y)];
    const vertical = y > 0.3 ? "above" : y < -0.3 ? "below" : "", side = x > 0.3 ? "right" : x < -0.3 ? "left" : "";
    if (!state.orbiting) {
      dial.setAttribute("aria-valuenow", Math.round((Math.atan2(y, x) * 180) / Math.PI));
      dial.setAttribute("aria-valuetext", `Light from ${[vertical, side].filter(Boolean).join(" and ") || "the front"}`);
    }
    redraw();
  }

  function setOrbit(on) {
    if (on === state.orbiting) return;
    state.orbiting = on;
    state.since = null;
    orbitButton.setAttribute("aria-pressed", on);
    redraw();
  }

  // The pointer is a lamp in front of the face: its place over the canvas gives the light's x and y.
  function lightFrom(event, canvas) {
    const box = canvas.getBoundingClientRect();
    setOrbit(false);
    setLight((2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height);
  }

  function lightByKey(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    setOrbit(false);
    setLight(state.light[0] + 0.12 * step[0], state.light[1] + 0.12 * step[1]);
  }

  const dial = $("#dial"), dialContext = contextOf(dial), orbitButton = $("#orbit");
  dial.width = dial.height = DIAL_SIZE;
  const dialSurface = ball(DIAL_SIZE);
  const cards = [...document.querySelectorAll(".card")];
  const readable = canReadPixels();
  $("#unreadable").hidden = readable;

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const canvas = target.querySelector("canvas");
      if (!isIntersecting) { lit.delete(canvas); continue; }
      const entry = { context: contextOf(canvas), surface: null };
      canvas.width = canvas.height = CARD_SIZE;
      lit.set(canvas, entry);
      surfaceOf(target, CARD_SIZE).then((made) => { entry.surface = made; redraw(); }, () => target.classList.add("broken"));
    }
  }, { rootMargin: "80px" });
  if (readable) cards.forEach((card) => watcher.observe(card));

  // ---- Controls ---------------------------------------------------------------------------------------

  document.addEventListener("pointermove", (event) => {
    const panel = event.target.closest?.(".card, .large .relit");
    if (panel && !dial.hasPointerCapture?.(event.pointerId)) lightFrom(event, panel.querySelector("canvas"));
  });
  dial.addEventListener("pointerdown", (event) => { dial.setPointerCapture(event.pointerId); lightFrom(event, dial); });
  dial.addEventListener("pointermove", (event) => { if (dial.hasPointerCapture(event.pointerId)) lightFrom(event, dial); });
  dial.addEventListener("keydown", lightByKey);
  orbitButton.setAttribute("aria-pressed", state.orbiting);
  orbitButton.addEventListener("click", () => setOrbit(!state.orbiting));
  const modes = [...document.querySelectorAll(".choice input")];
  modes.forEach((input) => input.addEventListener("change", () => {
    state.mode = input.value;
    modes.forEach((other) => { other.checked = other.value === input.value; });
    redraw();
  }));
  $("#landmarks").addEventListener("click", ({ currentTarget }) => {
    const on = document.documentElement.classList.toggle("landmarks");
    currentTarget.setAttribute("aria-pressed", on);
  });

  // ---- One face, large --------------------------------------------------------------------------------

  const dialog = $("#large"), largeCanvas = dialog.querySelector("canvas");
  let current = -1;

  async function show(number) {
    current = (number + cards.length) % cards.length;
    const card = cards[current], shown = current;
    dialog.querySelector("h2").textContent = card.querySelector(".caption button").textContent;
    for (const name of ["photo", "crop", "normals"]) dialog.querySelector(`.${name}`).replaceWith(card.querySelector(`.${name}`).cloneNode(true));
    dialog.querySelector(".facts").replaceWith(card.querySelector(".facts").cloneNode(true));
    dialog.querySelector(".facts").hidden = false;
    if (!dialog.open) dialog.showModal();
    if (!readable) return;
    const made = await surfaceOf(card, LARGE_SIZE);
    if (current !== shown || !dialog.open) return;
    largeCanvas.width = largeCanvas.height = LARGE_SIZE;
    lit.set(largeCanvas, { context: contextOf(largeCanvas), surface: made });
    redraw();
  }

  cards.forEach((card, number) => card.addEventListener("click", () => show(number)));
  dialog.addEventListener("close", () => { lit.delete(largeCanvas); cards[current].querySelector(".caption button").focus(); });
  dialog.addEventListener("click", ({ target }) => { if (target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && event.target.localName !== "input") { event.preventDefault(); show(current + step); }
  });
  largeCanvas.addEventListener("keydown", lightByKey);
  $("#previous").addEventListener("click", () => show(current - 1));
  $("#next").addEventListener("click", () => show(current + 1));
  $("#close").addEventListener("click", () => dialog.close());

  redraw();
})();
