// Plays all videos of the page by one clock. The element #videos holds
// {"frames", "observed", "fps", "sheets": [{"columns", "source"}]}; canvas.dataset.sheet is the number of a sheet,
// and canvas.dataset.minus that of another, of which the absolute difference is drawn.
const { frames, observed, fps, sheets } = JSON.parse(document.getElementById('videos').textContent);
const canvases = [...document.querySelectorAll('canvas')];
const cursors = [...document.querySelectorAll('.cursor')];
const [play, slider, speed, label] = ['play', 'frame', 'speed', 'label'].map(id => document.getElementById(id));
let current = 0, drawn = 0, last = null, carried = 0;
let playing = !matchMedia('(prefers-reduced-motion: reduce)').matches;

function draw(canvas, number, operation) {
  const { image, columns } = sheets[number], { width, height } = canvas;
  const pen = canvas.getContext('2d');
  pen.globalCompositeOperation = operation;
  const x = (current % columns) * width, y = Math.floor(current / columns) * height;
  pen.drawImage(image, x, y, width, height, 0, 0, width, height);
}

function show(frame) {
  current = (frame + frames) % frames;
  for (const canvas of canvases) {
    draw(canvas, canvas.dataset.sheet, 'copy');
    if (canvas.dataset.minus) draw(canvas, canvas.dataset.minus, 'difference');
    canvas.classList.toggle('predicted', current >= observed && !('truth' in canvas.dataset));
    drawn += 1;
  }
  for (const cursor of cursors) {
    const { first, last, frames: length } = cursor.parentNode.dataset, t = current - observed;
    const x = length > 1 ? Number(first) + (last - first) * t / (length - 1) : first;
    cursor.setAttribute('x1', x); cursor.setAttribute('x2', x);
    cursor.style.visibility = t >= 0 && t < length ? 'visible' : 'hidden';
  }
  const kind = current < observed ? 'observed' : 'predicted';
  slider.value = current;
  slider.setAttribute('aria-valuetext', `frame ${current + 1}, ${kind}`);
  label.textContent = `frame ${current + 1} of ${frames}, ${kind}`;
  document.body.dataset.frame = current; document.body.dataset.drawn = drawn;
}

function setPlaying(value) {
  playing = value; carried = 0; last = null;
  play.textContent = playing ? 'Pause' : 'Play';
}

function step(by) { setPlaying(false); show(current + by); }

function tick() {
  const now = performance.now();
  if (playing && last !== null) {
    carried += Math.min(now - last, 500) * fps * speed.value / 1000;
    const passed = Math.floor(carried);
    carried -= passed;
    if (passed) show(current + passed);
  }
  last = now;
}

play.onclick = () => setPlaying(!playing);
slider.oninput = () => { setPlaying(false); show(Number(slider.value)); };
document.getElementById('back').onclick = () => step(-1);
document.getElementById('forward').onclick = () => step(1);
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, button, summary, a, .scroll')) return;
  const action = { ' ': () => setPlaying(!playing), ArrowLeft: () => step(-1), ArrowRight: () => step(1) }[event.key];
  if (action) { event.preventDefault(); action(); }
});
Promise.all(sheets.map(sheet => {
  sheet.image = new Image();
  sheet.image.src = sheet.source;
  return sheet.image.decode();
})).then(() => { setPlaying(playing); show(0); setInterval(tick, 20); });
