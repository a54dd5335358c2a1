// Scores over predicted frames: a panel per metric, all results in one figure, values beside their names.

import { draw, make, number } from './dom.js';

const WIDTH = 290, HEIGHT = 190, LEFT = 46, RIGHT = 10, TOP = 28, BOTTOM = 40;
const MOST_TICKS = 5;
const BASELINES = { copy_last: 'copy last frame', mean_frame: 'mean frame' };

const known = values => values.filter(value => value !== null && Number.isFinite(value));
const mean = values => known(values).reduce((sum, value) => sum + value, 0) / known(values).length;
const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

// [{name, values, classes, main}] of one metric: per result the chosen future, best, worst and the others, then baselines.
function series(results, metric) {
  const lines = [], several = results.length > 1;
  results.forEach((result, place) => {
    const curve = result.answer.curves[metric];
    if (!curve) return;
    const prefix = several ? `${result.name}: ` : '', colour = `s${place}`, count = curve.futures.length;
    const marks = result.answer.players.filter(player => player.kind === 'future');
    const role = i => ['best', 'worst'].find(which => marks[i]?.[which]);
    curve.futures.forEach((values, i) => {
      const name = prefix + (count > 1 ? `future ${i + 1}${role(i) ? ` (${role(i)})` : ''}` : 'prediction');
      const look = i === result.chosen ? 'main' : { best: 'dashed', worst: 'dotted' }[role(i)] ?? 'thin';
      lines.push({ name, values, classes: `${colour} ${look}`, named: i === result.chosen || Boolean(role(i)) });
    });
  });
  let colour = results.length;
  results.forEach(result => Object.entries(result.answer.curves[metric]?.baselines ?? {}).forEach(([key, values]) => {
    if (lines.some(line => line.baseline === key && same(line.values, values))) return;
    const repeated = lines.some(line => line.baseline === key);
    const name = (BASELINES[key] ?? key) + (repeated ? `, for ${result.name}` : '');
    lines.push({ name, values, classes: `s${Math.min(7, 1 + colour++)}`, named: true, baseline: key });
  }));
  return lines.filter(line => known(line.values).length);
}

function ticks(low, high) {
  const rough = (high - low) / (MOST_TICKS - 1), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough * 0.999);
  const first = Math.ceil(low / step), count = Math.floor(high / step) - first + 1;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return Array.from({ length: count }, (_, i) => [(first + i) * step, ((first + i) * step).toFixed(digits)]);
}

function frameTicks(length) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200].find(size => length / size <= MOST_TICKS + 1);
  const between = Array.from({ length: Math.floor(length / step) }, (_, i) => (i + 1) * step);
  return [1, ...between.filter(frame => frame > 0.75 * step + 1 && length - frame >= 0.75 * step), ...length > 1 ? [length] : []];
}

class Panel {
  constructor(results, metric, seek) {
    const curve = results.map(result => result.answer.curves[metric]).find(Boolean);
    this.lines = series(results, metric);
    this.observed = results[0].shape.observed;
    this.length = Math.max(...results.map(result => result.shape.horizon));
    this.hovered = null;
    const values = this.lines.flatMap(line => known(line.values));
    let low = Math.min(...values), high = Math.max(...values);
    const margin = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    [low, high] = [low - margin, high + margin];
    this.x = t => LEFT + (this.length > 1 ? t / (this.length - 1) : 0.5) * (WIDTH - LEFT - RIGHT);
    this.y = value => TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
    const arrow = curve.higher_is_better ? '↑' : '↓';
    this.title = `${curve.label}${curve.unit ? ` (${curve.unit})` : ''} ${arrow}`;
    this.plot(low, high, seek);
    this.legend();
  }

  plot(low, high, seek) {
    const end = WIDTH - RIGHT, ground = HEIGHT - BOTTOM;
    this.cursor = draw('line', { class: 'cursor', y1: TOP, y2: ground });
    const said = this.lines.filter(line => line.named).map(line => {
      const there = known(line.values);
      return `${line.name} from ${number(there[0])} to ${number(there.at(-1))}`;
    });
    this.picture = draw('svg', { class: 'panel', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img',
      'aria-label': `${this.title} over predicted frames: ${said.join('; ')}` },
      draw('text', { class: 'title', x: LEFT, y: 18 }, this.title),
      ticks(low, high).flatMap(([value, text]) => [
        draw('line', { class: 'grid', x1: LEFT, x2: end, y1: this.y(value), y2: this.y(value) }),
        draw('text', { class: 'tick end', x: LEFT - 6, y: this.y(value) + 4 }, text)]),
      frameTicks(this.length).map(frame => draw('text', { class: 'tick middle', x: this.x(frame - 1), y: ground + 16 }, String(frame))),
      draw('line', { class: 'axis', x1: LEFT, x2: end, y1: ground, y2: ground }),
      draw('text', { class: 'tick middle', x: (LEFT + end) / 2, y: HEIGHT - 6 }, 'predicted frame'),
      this.cursor,
      [...this.lines].sort((a, b) => weight(a) - weight(b)).flatMap(line => this.curve(line)));
    const frameAt = event => {
      const box = this.picture.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * WIDTH;
      const share = (x - LEFT) / (WIDTH - LEFT - RIGHT);
      return Math.max(0, Math.min(this.length - 1, Math.round(share * (this.length - 1))));
    };
    this.picture.onpointermove = event => { this.hovered = frameAt(event); this.mark(); };
    this.picture.onpointerleave = () => { this.hovered = null; this.mark(); };
    this.picture.onclick = event => seek(this.observed + frameAt(event));
  }

  // A line for every stretch without a gap; a dot where it is one frame.
  curve({ values, classes }) {
    const parts = [];
    for (let t = 0, run = []; t <= values.length; t++) {
      if (t < values.length && Number.isFinite(values[t] ?? NaN)) run.push(`${this.x(t).toFixed(1)},${this.y(values[t]).toFixed(1)}`);
      else if (run.length) {
        if (run.length === 1) {
          const [x, y] = run[0].split(',');
          parts.push(draw('circle', { class: `dot ${classes}`, cx: x, cy: y, r: 3.5 }));
        }
        parts.push(draw('polyline', { class: `curve ${classes}`, points: run.join(' ') }));
        run = [];
      }
    }
    return parts;
  }

  legend() {
    this.where = make('p', { class: 'muted' });
    const rest = this.lines.filter(line => !line.named), entries = [];
    for (const line of this.lines.filter(one => one.named)) {
      const value = make('span', { class: 'value' });
      entries.push(make('li', {}, sample(line.classes), make('span', {}, line.name), value));
      line.value = value;
    }
    if (rest.length) entries.push(make('li', {}, sample(rest[0].classes), make('span', {}, rest.length > 1 ? `${rest.length} other futures` : rest[0].name)));
    this.element = make('div', { class: 'metric' }, this.picture, this.where, make('ul', { class: 'values' }, ...entries));
  }

  follow(frame) {
    this.current = frame - this.observed;
    this.mark();
  }

  mark() {
    const t = this.hovered ?? this.current, inside = t >= 0 && t < this.length;
    this.cursor.style.visibility = inside ? 'visible' : 'hidden';
    if (inside) for (const end of ['x1', 'x2']) this.cursor.setAttribute(end, this.x(t));
    this.where.textContent = inside ? `at predicted frame ${t + 1}` : 'mean over the frames';
    for (const { value, values } of this.lines) if (value) value.textContent = number(inside ? values[t] ?? NaN : mean(values), 0.01 * Math.abs(mean(values)));
  }
}

const weight = ({ classes, baseline }) => (classes.includes('main') ? 3 : classes.includes('thin') ? 0 : baseline ? 1 : 2);

function sample(classes) {
  return draw('svg', { viewBox: '0 0 30 12', 'aria-hidden': 'true' }, draw('line', { class: `curve ${classes}`, x1: 1, x2: 29, y1: 6, y2: 6 }));
}

export class Curves {
  // seek(frame) shows a frame of the videos.
  constructor(root, table, seek) {
    Object.assign(this, { root, table, seek, panels: [] });
    table.ontoggle = () => this.tabulate();
  }

  show(results) {
    const metrics = [...new Set(results.flatMap(result => Object.keys(result.answer.curves ?? {})))];
    this.panels = metrics.map(metric => new Panel(results, metric, this.seek)).filter(panel => panel.lines.length);
    this.root.hidden = !this.panels.length;
    this.root.querySelector('.panels').replaceChildren(...this.panels.map(panel => panel.element));
    this.tabulate();
  }

  clear() {
    this.panels = [];
    this.root.hidden = true;
  }

  follow(frame) { for (const panel of this.panels) panel.follow(frame); }

  tabulate() {
    const place = this.table.querySelector('.scroll');
    if (!this.table.open || !this.panels.length) return place.replaceChildren();
    const columns = this.panels.flatMap(panel => panel.lines.map(line => line.values));
    const digits = columns.map(values => 0.01 * Math.abs(mean(values)));
    const heads = this.panels.map(panel => make('th', { scope: 'colgroup', colspan: panel.lines.length }, panel.title));
    const names = this.panels.flatMap(panel => panel.lines.map(line => make('th', { scope: 'col' }, line.name)));
    const length = Math.max(...columns.map(values => values.length));
    const rows = Array.from({ length }, (_, t) => make('tr', {}, make('th', { scope: 'row' }, String(t + 1)),
      ...columns.map((values, i) => make('td', {}, number(values[t] ?? NaN, digits[i])))));
    place.replaceChildren(make('table', {},
      make('thead', {}, make('tr', {}, make('th', { class: 'corner', rowspan: 2, scope: 'col' }, 'frame'), ...heads), make('tr', {}, ...names)),
      make('tbody', {}, ...rows)));
  }
}
