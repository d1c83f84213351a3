// A person's pages: moving through time without leaving the page. Without it, the form does the same.
"use strict";

(() => {
  const DAY = 86400000;
  const form = document.getElementById("choice");
  let asked = null;

  // Whatever draws something listens for this, once for the page and again for every new view.
  const shown = () => document.dispatchEvent(new CustomEvent("lineage:shown"));

  async function show(url) {
    asked?.abort();
    const mine = (asked = new AbortController());
    const view = document.getElementById("view");
    view.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(url, { signal: mine.signal, credentials: "same-origin" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById("view");
      // Signed out, or an error: the browser shows it as it is.
      if (!found) return location.assign(url);
      const opened = [...view.querySelectorAll("details")].map((one) => one.open);
      view.replaceWith(document.adoptNode(found));
      [...found.querySelectorAll("details")].forEach((one, n) => (one.open = opened[n] ?? one.open));
      // Said anew: what was there when the element came is not read out.
      const told = document.getElementById("told");
      const text = told?.textContent;
      if (told) { told.textContent = ""; setTimeout(() => (told.textContent = text), 50); }
      history.replaceState(null, "", url);
      shown();
    } catch (error) {
      if (error.name !== "AbortError") location.assign(url);
    }
  }

  function chosenUrl() {
    const url = new URL(location.href);
    for (const [name, value] of new FormData(form)) value ? url.searchParams.set(name, value) : url.searchParams.delete(name);
    url.searchParams.delete("page");
    return url.href;
  }

  function slider() {
    const slide = document.getElementById("slide");
    const output = document.getElementById("slid");
    const moment = document.getElementById("as_of");
    const first = Date.parse(form.dataset.first);
    const days = Math.round((Date.parse(form.dataset.last) - first) / DAY);
    if (days < 1) return;
    const dayOf = (n) => new Date(first + n * DAY).toISOString().slice(0, 10);
    const tell = () => {
      const n = Number(slide.value);
      const text = n >= days ? "everything" : `until ${dayOf(n)}`;
      output.textContent = text;
      slide.setAttribute("aria-valuetext", text);
    };
    const place = () => {
      const at = moment.value ? Math.floor((Date.parse(`${moment.value}Z`) - first) / DAY) : days;
      slide.value = Math.max(0, Math.min(days, at));
      tell();
    };
    slide.max = days;
    place();
    slide.closest(".slider").hidden = false;
    slide.addEventListener("input", tell);
    let waiting = 0;
    // When it rests: each view is a look, and is recorded.
    slide.addEventListener("change", () => {
      const n = Number(slide.value);
      moment.value = n >= days ? "" : `${dayOf(n)}T23:59:59`;
      clearTimeout(waiting);
      waiting = setTimeout(() => show(chosenUrl()), 250);
    });
    moment.addEventListener("change", place);
  }

  if (form) {
    slider();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      show(chosenUrl());
    });
    for (const select of form.querySelectorAll("select")) select.addEventListener("change", () => show(chosenUrl()));
  }
  shown();
})();
