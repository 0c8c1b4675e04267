// What does not fit in the page as it stands: an array of lines. Ids, code and texts without a space may break anywhere.
() => {
  const LONGEST_WORD = 30;
  const BOXES = "td, th, dd, dt, button, .button, .state, li, .card, p, header, main, footer";
  const found = new Set();
  const isSeen = (each) => each.checkVisibility({ visibilityProperty: true }) && !each.closest(".unseen, .skip, svg");
  const named = (each) => {
    const text = each.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
    return `<${each.tagName.toLowerCase()} class="${each.className}"> ${text}`;
  };
  for (const each of document.querySelectorAll(".table")) {
    const excess = each.scrollWidth - each.clientWidth;
    if (isSeen(each) && excess > 1) found.add(`scrolls sideways by ${excess}: ${each.getAttribute("aria-label")}`);
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node; (node = texts.nextNode()); ) {
    const parent = node.parentElement;
    if (!node.data.trim() || !isSeen(parent) || parent.closest("script, option, textarea, pre")) continue;
    const around = [];
    for (let each = parent; each !== document.body; each = each.parentElement) around.push(each);
    if (around.some((each) => getComputedStyle(each).clipPath !== "none")) continue; // for readers of the screen alone
    const hiding = around.filter((each) => !each.matches(".table") && getComputedStyle(each).overflowX !== "visible");
    const box = parent.closest(BOXES).getBoundingClientRect();
    for (const word of node.data.matchAll(/[^\s\u2010-\u2014-]+/gu)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const rects = [...range.getClientRects()].filter((each) => each.width > 0);
      const told = `${word[0].slice(0, 40)}: ${named(parent)}`;
      if (rects.some((each) => each.right > box.right + 1 || each.left < box.left - 1)) found.add(`outside its box, ${told}`);
      for (const edge of hiding.map((each) => each.getBoundingClientRect())) {
        if (rects.some((each) => each.right > edge.right + 1)) found.add(`cut, ${told}`);
      }
      const isWord = /^[\p{Script=Latin}\p{N}.,:;()'’…_%]+$/u.test(word[0]) && word[0].length <= LONGEST_WORD;
      const lines = new Set(rects.map((each) => Math.round(each.top))).size;
      if (isWord && lines > 1 && !parent.closest("code, .id, .any")) found.add(`broken, ${told}`);
    }
  }
  return [...found];
}
