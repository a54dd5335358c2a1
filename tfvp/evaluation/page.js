// Draws all videos of the page in step. The element #videos holds
// {"frames", "observed", "fps", "sheets": [{"columns", "source"}]}; canvas.dataset.sheet is the number of a sheet,
// and canvas.dataset.minus that of another, of which the absolute difference is drawn.
const { frames, observed, fps, sheets } = JSON.parse(document.getElementById('videos').textContent);
const canvases = [...document.querySelectorAll('canvas')];
const cursors = [...document.querySelectorAll('.cursor')];
let drawn = 0;

function paste(canvas, number, frame, operation) {
  const { image, columns } = sheets[number], { width, height } = canvas;
  const pen = canvas.getContext('2d');
  pen.globalCompositeOperation = operation;
  const x = (frame % columns) * width, y = Math.floor(frame / columns) * height;
  pen.drawImage(image, x, y, width, height, 0, 0, width, height);
}

function draw(frame) {
  for (const canvas of canvases) {
    paste(canvas, canvas.dataset.sheet, frame, 'copy');
    if (canvas.dataset.minus) paste(canvas, canvas.dataset.minus, frame, 'difference');
    canvas.classList.toggle('predicted', frame >= observed && !('truth' in canvas.dataset));
    drawn += 1;
  }
  for (const cursor of cursors) {
    const { first, last, frames: length } = cursor.parentNode.dataset, t = frame - observed;
    const x = length > 1 ? Number(first) + (last - first) * t / (length - 1) : first;
    cursor.setAttribute('x1', x); cursor.setAttribute('x2', x);
    cursor.style.visibility = t >= 0 && t < length ? 'visible' : 'hidden';
  }
  document.body.dataset.drawn = drawn;
}

Promise.all(sheets.map(sheet => {
  sheet.image = new Image();
  sheet.image.src = sheet.source;
  return sheet.image.decode();
})).then(() => {
  const clock = new Clock({ frames, observed, fps, draw });
  clock.show(0);
  clock.setPlaying(!matchMedia('(prefers-reduced-motion: reduce)').matches);
});
