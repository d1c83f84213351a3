// How far long work is: a form that takes a while says so, and a download of many lines counts them. Without this file
// the browser does both in its own way.
"use strict";

const MANY = 2000;

for (const form of document.querySelectorAll("form[data-working]")) {
  form.addEventListener("submit", () => {
    form.querySelector("[role=status]").textContent = form.dataset.working;
  });
}

for (const box of document.querySelectorAll(".downloads")) {
  // A short list is there at once.
  if (Number(box.dataset.people) < MANY) continue;
  for (const link of box.querySelectorAll("a[data-lines]")) {
    link.addEventListener("click", (click) => {
      click.preventDefault();
      if (box.dataset.busy) return;
      box.dataset.busy = "true";
      download(box, link).finally(() => delete box.dataset.busy);
    });
  }
}

async function download(box, link) {
  const bar = box.querySelector("progress");
  const told = box.querySelector("[role=status]");
  const whole = Number(link.dataset.lines);
  bar.max = whole;
  bar.value = 0;
  bar.hidden = false;
  told.textContent = "The list is being made.";
  try {
    const answer = await fetch(link.href);
    if (!answer.ok || answer.redirected) throw new Error(`the server answered ${answer.status}`);
    const pieces = [];
    let lines = 0;
    let step = 0;
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      for (const byte of value) if (byte === 10) lines += 1;
      bar.value = lines;
      // Read aloud four times, not for every piece.
      if (Math.floor((4 * lines) / whole) > step) {
        step = Math.floor((4 * lines) / whole);
        told.textContent = `${lines.toLocaleString("en")} of ${whole.toLocaleString("en")} lines.`;
      }
    }
    const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? "incident";
    const url = URL.createObjectURL(new Blob(pieces));
    const hidden = Object.assign(document.createElement("a"), { href: url, download: name });
    hidden.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    told.textContent = `${name} is whole: ${lines.toLocaleString("en")} lines.`;
  } catch (error) {
    told.textContent = `The download failed (${error.message}). Try it again.`;
  }
  bar.hidden = true;
}
