// A page that was opened from a disk knows where its records are.
if (window.location.protocol === "file:") {
  const folder = decodeURIComponent(new URL(".", window.location.href).pathname);
  const quoted = /^[\w@%+=:,./-]+$/.test(folder) ? folder : `'${folder.replaceAll("'", "'\"'\"'")}'`;
  for (const path of document.querySelectorAll(".path span")) path.before(quoted);
  document.querySelector(".folder").textContent = "The records should lie next to this page.";
}
copyable();
watchWidths();
colours();
await sortable();
filter();
await plots();
linked();
document.body.dataset.ready = "all";
