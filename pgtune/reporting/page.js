
"use strict";
(() => {
  const form = document.getElementById("filter");
  const keys = ["verdict", "part", "type", "q"];
  const cards = Array.from(document.querySelectorAll(".card"), (card) => ({
    card,
    text: Array.from(card.querySelectorAll(".words dd, footer"), (part) => part.textContent).join("\n").toLowerCase(),
  }));

  function field(key) {
    return form.elements.namedItem(key);
  }

  // The state of the filter stands behind the # as key=value pairs, so that a link keeps it; what has no = there is the
  // name of a place on the page and no state.
  function read() {
    const state = location.hash.slice(1);
    if (state && !state.includes("=")) return;
    const given = new URLSearchParams(state);
    for (const key of keys) {
      const input = field(key);
      if (!input) continue;
      const value = given.get(key) ?? "";
      const known = input.tagName !== "SELECT" || Array.from(input.options).some((option) => option.value === value);
      input.value = known ? value : "";
    }
    const boxes = field("boxes");
    if (boxes) boxes.checked = given.get("boxes") !== "off";
  }

  function write() {
    const state = new URLSearchParams();
    for (const key of keys) {
      const input = field(key);
      if (input && input.value) state.set(key, input.value);
    }
    const boxes = field("boxes");
    if (boxes && !boxes.checked) state.set("boxes", "off");
    history.replaceState(null, "", "#" + (state.toString() || "examples"));
  }

  function show() {
    const wanted = keys.slice(0, 3).map((key) => [key, field(key) ? field(key).value : ""]);
    const words = field("q").value.trim().toLowerCase();
    let count = 0;
    for (const { card, text } of cards) {
      const fits = wanted.every(([key, value]) => !value || card.dataset[key] === value) && text.includes(words);
      card.hidden = !fits;
      count += fits;
    }
    const boxes = field("boxes");
    document.body.classList.toggle("noboxes", Boolean(boxes) && !boxes.checked);
    document.getElementById("shown").textContent = `${count} of ${cards.length} examples shown`;
    document.getElementById("nothing").hidden = count > 0;
  }

  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => { show(); write(); });
    document.getElementById("f-clear").addEventListener("click", () => {
      for (const key of keys) if (field(key)) field(key).value = "";
      show();
      write();
    });
    window.addEventListener("hashchange", () => { read(); show(); });
    read();
    show();
    if (location.hash.includes("=")) document.getElementById("examples").scrollIntoView();
  }

  // What is folded away is printed too.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("section > details:not([open])"));
    for (const details of folded) details.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
  });
})();
