(() => {
  const most = (text, n) => String(text || '').slice(0, n);
  const elements = [];
  const wanted = 'a[href],button,input,select,textarea,summary,[role=button],[role=link],[onclick]';
  for (const e of document.querySelectorAll(wanted)) {
    const r = e.getBoundingClientRect();
    if (r.width < 1 || r.height < 1 || r.bottom < 0 || r.right < 0) continue;
    if (r.top > innerHeight || r.left > innerWidth) continue;
    const hidden = e.type === 'password' || e.type === 'hidden';
    const name = e.innerText || (hidden ? '' : e.value) || e.placeholder ||
      e.getAttribute('aria-label') || e.name;
    elements.push([Math.round(r.left + r.width / 2), Math.round(r.top + r.height / 2),
      e.tagName.toLowerCase() + (e.tagName === 'INPUT' ? ' ' + e.type : ''),
      most(name, 80).replace(/\s+/g, ' ').trim()]);
    if (elements.length >= 50) break;
  }
  return JSON.stringify({
    url: most(location.href, 500), title: most(document.title, 200),
    scrolled: Math.round(scrollY), height: document.documentElement.scrollHeight,
    text: most(document.body && document.body.innerText, 6000), elements,
  });
})()
