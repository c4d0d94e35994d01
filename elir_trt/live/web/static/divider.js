// The divider between before and after: mouse, touch and keyboard.

const STEP = 2;
const LARGE_STEP = 10;

export function makeDivider(stage, divider) {
  let split = 50;

  function set(percent) {
    split = Math.min(100, Math.max(0, percent));
    stage.style.setProperty("--split", `${split}%`);
    const shown = Math.round(split);
    divider.setAttribute("aria-valuenow", String(shown));
    divider.setAttribute("aria-valuetext", `${shown} % as it came`);
  }

  function follow(event) {
    const box = stage.getBoundingClientRect();
    set(((event.clientX - box.left) / box.width) * 100);
  }

  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    divider.focus();
    event.preventDefault();
  });
  divider.addEventListener("pointermove", (event) => {
    if (divider.hasPointerCapture(event.pointerId)) follow(event);
  });
  // A click anywhere in the picture brings the divider there.
  stage.addEventListener("click", (event) => {
    if (event.target !== divider && !divider.contains(event.target)) follow(event);
  });
  divider.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, PageDown: -LARGE_STEP, PageUp: LARGE_STEP,
      Home: -100, End: 100,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    set(split + moves[event.key] * (event.shiftKey ? 5 : 1));
  });
  set(split);
}
