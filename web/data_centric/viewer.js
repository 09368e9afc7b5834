import { h } from "./shared/dom.js";

const MOST = 8; // maximum scale; at 1 the picture fits into the stage
const STEP = 1.5;
const MOVE = 60; // pixels by an arrow key
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/**
 * A picture that can be zoomed and moved: wheel, pinch, drag, double click, buttons, and `key(name)`, which
 * returns whether it used the key. `loaded` resolves once the picture is shown, and rejects if it cannot be.
 */
export function viewer(src) {
  const image = h("img", { crossOrigin: "anonymous", alt: "The picture to label", ondragstart: (event) => event.preventDefault() });
  const stage = h("div", { class: "stage", tabIndex: 0, role: "group", "aria-label": "Picture. Plus and minus zoom, arrow keys move, 0 fits." }, image);
  const level = h("span", { class: "level" });
  const button = (label, sign, key, act) =>
    h("button", { type: "button", class: "quiet small", "aria-label": label, "aria-keyshortcuts": key, title: `${label} (${key})`, onclick: act }, sign);
  const smaller = button("Zoom out", "−", "-", () => zoom(scale / STEP));
  const larger = button("Zoom in", "+", "+", () => zoom(scale * STEP));
  const fit = button("Fit", "Fit", "0", () => zoom(1));
  const tools = h("div", { class: "tools", role: "group", "aria-label": "Zoom" }, smaller, level, larger, fit);

  // (x, y): pixels from the stage's center to the picture's. At scale 1 the picture fits into the stage
  let [x, y, scale] = [0, 0, 1];

  const draw = () => {
    if (!image.naturalWidth) return; // not loaded yet
    const { clientWidth: width, clientHeight: height } = stage;
    const fitted = Math.min(width / image.naturalWidth, height / image.naturalHeight);
    const room = (natural, size) => Math.max(0, (natural * fitted * scale - size) / 2);
    const clamp = (value, most) => Math.min(most, Math.max(-most, value));
    x = clamp(x, room(image.naturalWidth, width));
    y = clamp(y, room(image.naturalHeight, height));
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    level.textContent = `${Math.round(scale * 100)} %`;
    stage.classList.toggle("zoomed", scale > 1);
    for (const [control, off] of [[smaller, scale <= 1], [fit, scale <= 1], [larger, scale >= MOST]])
      control.setAttribute("aria-disabled", off ? "true" : "false");
  };

  /** Zooms; the picture's point at `[px, py]`, from the stage's middle, stays where it is. */
  const zoom = (to, [px, py] = [0, 0]) => {
    const next = Math.min(MOST, Math.max(1, to));
    x = px - (px - x) * (next / scale);
    y = py - (py - y) * (next / scale);
    scale = next;
    draw();
  };

  const move = (dx, dy) => {
    x += dx;
    y += dy;
    draw();
  };

  const at = ({ clientX, clientY }) => {
    const box = stage.getBoundingClientRect();
    return [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
  };

  stage.addEventListener("wheel", (event) => {
    if (event.deltaY > 0 && scale === 1) return; // cannot zoom out, so the page scrolls
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 20 : 1);
    // A pinch on a trackpad is a wheel with Ctrl, in smaller steps
    zoom(scale * Math.exp(-pixels / (event.ctrlKey ? 100 : 400)), at(event));
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => zoom(scale > 1 ? 1 : 2.5, at(event)));

  const pointers = new Map(); // positions by pointer
  const span = () => {
    const [[ax, ay], [bx, by]] = pointers.values();
    return { middle: [(ax + bx) / 2, (ay + by) / 2], distance: Math.hypot(ax - bx, ay - by) || 1 };
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || pointers.size === 2) return;
    pointers.set(event.pointerId, at(event));
    if (scale > 1 || pointers.size === 2) for (const id of pointers.keys()) stage.setPointerCapture(id);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    if (pointers.size === 1) {
      const now = at(event);
      pointers.set(event.pointerId, now);
      if (scale > 1) move(now[0] - before[0], now[1] - before[1]);
      return;
    }
    const old = span();
    pointers.set(event.pointerId, at(event));
    const now = span();
    move(now.middle[0] - old.middle[0], now.middle[1] - old.middle[1]);
    zoom(scale * (now.distance / old.distance), now.middle);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
    stage.addEventListener(end, (event) => pointers.delete(event.pointerId));

  const sized = new ResizeObserver(draw);
  sized.observe(stage);
  image.src = src;

  return {
    element: h("figure", { class: "viewer" }, stage, tools),
    loaded: image.decode().then(draw),
    key(name) {
      if (name === "+" || name === "=") zoom(scale * STEP);
      else if (name === "-") zoom(scale / STEP);
      else if (name === "0") zoom(1);
      else if (name in ARROWS && scale > 1) move(...ARROWS[name].map((step) => step * MOVE));
      else return false;
      return true;
    },
  };
}
