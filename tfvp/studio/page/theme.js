// Colours as the system has them, or as the reader chose: the rules that look.css has for dark systems are switched.
(() => {
  const rules = [...document.styleSheets].flatMap(sheet => [...sheet.cssRules]);
  const dark = rules.filter(rule => rule instanceof CSSMediaRule && rule.media.mediaText.includes('prefers-color-scheme'));
  const texts = { light: 'not all', dark: 'all', auto: '(prefers-color-scheme: dark)' };

  function apply(choice) {
    for (const rule of dark) rule.media.mediaText = texts[choice];
    document.documentElement.style.colorScheme = choice === 'auto' ? '' : choice;
  }

  let choice = 'auto';
  try { choice = localStorage.getItem('tfvp-theme') ?? 'auto'; } catch { /* a browser that stores nothing */ }
  if (!(choice in texts)) choice = 'auto';
  apply(choice);
  document.addEventListener('DOMContentLoaded', () => {
    const select = document.getElementById('theme');
    select.value = choice;
    select.onchange = () => {
      apply(select.value);
      try { localStorage.setItem('tfvp-theme', select.value); } catch { /* then it holds until the page is closed */ }
    };
  });
})();
