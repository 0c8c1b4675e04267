// What a page can do better with JavaScript than without; every page works without it.
"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const label = button.textContent;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.classList.add("done");
    if (label) button.textContent = "Copied";
    setTimeout(() => { button.classList.remove("done"); button.textContent = label; }, 1500);
  });
}
// A list with a box in its head: all or none.
for (const box of document.querySelectorAll("[data-all]")) {
  box.hidden = false;
  box.addEventListener("change", () => {
    for (const each of box.form.querySelectorAll(`input[name="${box.dataset.all}"]`)) each.checked = box.checked;
  });
}
// A form whose answer is a preview: it is asked for anew while somebody types, and only that part of the page is taken.
for (const form of document.querySelectorAll("form[data-preview]")) {
  let timer, asked = 0;
  const refresh = async () => {
    const mine = ++asked;
    const body = new FormData(form);
    body.set("do", "preview");
    const answer = await fetch(form.action, { method: "POST", body, credentials: "same-origin", redirect: "error" }).catch(() => null);
    if (!answer || mine !== asked) return;
    const found = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(form.dataset.preview);
    if (found && mine === asked) document.getElementById(form.dataset.preview).replaceChildren(...found.childNodes);
  };
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(refresh, 300); });
}
// A menu closes with Escape, and when somebody goes on elsewhere.
const menus = document.querySelectorAll("details.menu");
document.addEventListener("click", (event) => { for (const each of menus) if (!each.contains(event.target)) each.open = false; });
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const each of menus) if (each.open) { each.open = false; each.querySelector("summary").focus(); }
});
// Long work: while it goes on, the parts that say how far it is are replaced; then the page is loaded once more, unless
// somebody has begun to fill in a form. Without scripts the page itself asks to be loaded again.
const every = Number(document.querySelector("main").dataset.refresh);
if (every) {
  const isTouched = (field) => field === document.activeElement || (field.defaultValue !== undefined && field.value !== field.defaultValue);
  const timer = setInterval(async () => {
    const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" }).catch(() => null);
    if (!answer || !answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const found = page.getElementById(part.id);
      if (found) part.replaceChildren(...found.childNodes);
    }
    if (page.querySelector("main").dataset.refresh) return;
    clearInterval(timer);
    if (![...document.querySelectorAll("main input, main select")].some(isTouched)) location.reload();
  }, every * 1000);
}
