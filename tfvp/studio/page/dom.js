// Elements of the page. Text always becomes text nodes, as titles and sentences hold names of files.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = id => document.getElementById(id);
export const still = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

// A picture that moves, or its first frame where the reader's system asks for less motion.
export function picture(url, alt, attributes = {}) {
  if (!url) return make('span', { class: 'blank', ...attributes });
  const image = make('img', { src: url, alt, loading: 'lazy', ...attributes });
  if (!still()) return image;
  const canvas = make('canvas', { role: 'img', 'aria-label': alt, class: 'picture', ...attributes });
  const loader = make('img', { src: url, load: () => {
    canvas.width = loader.naturalWidth; canvas.height = loader.naturalHeight;
    canvas.getContext('2d').drawImage(loader, 0, 0);
  } });
  return canvas;
}

// A sentence beside the thing that failed, and a button that tries it again.
export function complain(place, error, again) {
  console.warn(error);
  const sentence = error.sentence ?? 'Something in the page failed; reload it to go on.';
  const retry = again && error.gone
    ? make('button', { type: 'button', click: () => { place.replaceChildren(); again(); } }, 'Try again')
    : null;
  place.replaceChildren(make('p', {}, sentence), ...(retry ? [retry] : []));
}

// Digits as a half-width of an interval allows them, else three significant ones.
export function number(value, interval) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  if (!interval) return String(Number(value.toPrecision(3)));
  return value.toFixed(Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(interval)))));
}

export function seconds(value) {
  if (value < 1) return `${value.toFixed(2)} s`;
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}
