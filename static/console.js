// Only what HTML cannot do: copy a secret, and "/" to reach the filter.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  const label = button.querySelector("span") || button;
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    // No clipboard without https: select it, and let the older command try.
    field.focus();
    field.select();
    document.execCommand("copy");
  }
  label.textContent = "Copied";
  setTimeout(() => { label.textContent = "Copy"; }, 2000);
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = document.querySelector("[data-slash]");
  if (!field || field.closest("[inert]")) return;
  event.preventDefault();
  field.focus();
});

// Buttons that need script are hidden in the markup, so that a page without script offers none.
for (const button of document.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
