// What the page shows, kept behind the # of its address, so that it survives a reload and can be sent to others.

const KEYS = ['model', 'clip', 'start', 'observed', 'horizon', 'futures', 'seed', 'compare', 'shown'];

export function readView() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(KEYS.filter(key => given.has(key)).map(key => [key, given.get(key)]));
}

export function writeView(view) {
  const wanted = new URLSearchParams();
  for (const key of KEYS) if (view[key] !== undefined && view[key] !== null && view[key] !== '') wanted.set(key, view[key]);
  const text = `#${wanted.toString().replaceAll('%2F', '/').replaceAll('%2C', ',')}`;
  if (text !== location.hash) history.replaceState(null, '', text);
}
