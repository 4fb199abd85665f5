// What the page does with its two libraries, which lie in it compressed, as base64: sort, filter, draw, link.
async function blob(name) {
  const letters = atob(document.getElementById(`library-${name}`).textContent);
  const packed = new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))]);
  const text = await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
  return URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
}

// filters

const filters = document.querySelector(".filters");
const grids = []; // the sortable tables, by DataTables' interface
const wanted = (name) => document.getElementById(`filter-${name}`).value;
// the dense row has a blank target, and always stays
const stays = (given) => ["dataset", "network", "target"].every(
  (name) => !wanted(name) || !given[name] || given[name] === wanted(name));

function filter() {
  for (const part of document.querySelectorAll("article, li[data-target], details[data-dataset]")) {
    part.hidden = !stays(part.dataset);
  }
  // tables as a report has them elsewhere too: a body of rows for each target
  for (const head of document.querySelectorAll("th[scope=rowgroup]")) {
    const target = /^Target: (\S+) /.exec(head.textContent)?.[1] ?? "own";
    head.closest("tbody").hidden = !stays({ target });
  }
  for (const grid of grids) grid.draw();
  for (const place of document.querySelectorAll(".pictures")) pictures(place);
  for (const place of document.querySelectorAll(".plot")) draw(place);
  const rows = document.querySelectorAll("article:not([hidden]) table.main tbody tr[id]").length;
  document.getElementById("filtered").textContent = Object.values(filters.elements).some((one) => one.value)
    ? `${rows} rows of the main tables are left. ${wanted("target") ? "Pictures fade the panels of other targets." : ""}`
    : "";
  hints();
}
filters.addEventListener("change", filter);
filters.addEventListener("reset", () => setTimeout(filter)); // once the choices are back at all

// tables

async function sortable() {
  const { ITable, jQuery } = await import(await blob("tables"));
  jQuery.fn.dataTable.ext.search.push((settings, texts, index) => stays(settings.aoData[index].nTr.dataset));
  const plain = { paging: false, info: false, searching: true, layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null } };
  const paged = { pageLength: 10 };
  for (const table of document.querySelectorAll("table.main, table.more, table.records")) {
    const how = table.classList.contains("records") ? paged : plain;
    new ITable(table, { ...how, order: [], autoWidth: false });
    grids.push(jQuery(table).DataTable());
  }
}

// pictures: a panel of another target is faded in its place; a picture that mixes what the filter separates is hidden

function pictures(place) {
  const article = place.closest("article");
  const out = [];
  for (const figure of place.querySelectorAll("details.figure")) {
    const { targets, mixed } = figure.dataset;
    // a picture of no network shows several
    const parted = wanted("target") || (!article && (wanted("dataset") || wanted("network")));
    figure.hidden = Boolean(parted) && (mixed !== undefined
      || (Boolean(targets) && !targets.split(" ").some((target) => stays({ target }))));
    if (figure.hidden) out.push(figure.querySelector("summary").textContent);
    else if (targets) fade(figure.querySelector("img"));
  }
  const note = place.nextElementSibling;
  note.hidden = out.length === 0;
  note.textContent = `Hidden while a filter is on, because they mix what it separates: ${out.join("; ")}.`;
}

const pristine = new WeakMap(); // image → its file, as the page was sent
function fade(image) {
  if (!pristine.has(image)) pristine.set(image, image.src);
  const [head, data] = pristine.get(image).split(",");
  if (!head.includes("svg") || !wanted("target")) {
    if (image.src !== pristine.get(image)) image.src = pristine.get(image);
    return;
  }
  const text = new TextDecoder().decode(Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)));
  const drawing = new DOMParser().parseFromString(text, "image/svg+xml");
  const panels = [...drawing.querySelectorAll("[id^='panel:']")];
  const left = panels.filter((panel) => stays({ target: targetOf(panel) }));
  const labelled = left.some((panel) => panel.querySelector("[id^=xtick_] text"));
  for (const panel of panels) if (!left.includes(panel)) fadePanel(panel, labelled);
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(drawing))}`;
}

// as the filter has it, by the last part of a panel's id; none where a panel is of no target
function targetOf(panel) {
  const last = panel.id.split(":").at(-1);
  if (last === "own") return last;
  return last > 0 && last < 1 ? `${Number((100 * last).toPrecision(6))}%` : "";
}

// without what other panels need of it: the axis's label, and ticks where panels share them
function fadePanel(panel, labelled) {
  for (const part of panel.querySelectorAll(":scope > *, :scope > [id^='matplotlib.axis'] > *, [id^=xtick_] > *")) {
    const within = part.parentElement;
    const whole = part.querySelector(":scope > [id^=xtick_]"); // the x axis is faded by its parts
    const label = /^text_/.test(part.id) && within.querySelector(":scope > [id^=xtick_]");
    const number = /^text_/.test(part.id) && /^xtick_/.test(within.id) && !labelled;
    const faded = within.closest("[opacity]");
    if (!whole && !faded && !label && !number && !/^xtick_/.test(part.id)) part.setAttribute("opacity", "0.12");
  }
}

// where a table is wider than its place, say so
function hints() {
  for (const place of document.querySelectorAll(".scroll")) {
    const more = place.scrollWidth - place.clientWidth > 4;
    const hint = place.previousElementSibling?.matches(".wider") ? place.previousElementSibling : null;
    if (hint) hint.hidden = !more;
    place.classList.toggle("has-more", more && place.scrollLeft + place.clientWidth < place.scrollWidth - 4);
  }
}
function watchWidths() {
  for (const place of document.querySelectorAll(".scroll")) {
    const hint = document.createElement("p");
    hint.className = "hint wider";
    hint.textContent = "More columns to the right: scroll sideways →";
    place.before(hint);
    place.addEventListener("scroll", hints, { passive: true });
    place.closest("details")?.addEventListener("toggle", hints);
  }
  window.addEventListener("resize", hints);
}

// figures

const drawn = JSON.parse(document.getElementById("plots").textContent);

function draw(place) {
  if (!window.Plotly || place.closest("[hidden]")) return;
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink");
  const line = style.getPropertyValue("--line");
  const { data, layout } = drawn[place.dataset.plot];
  const axis = (own) => ({ ...own, gridcolor: line, zeroline: false, automargin: true });
  const look = {
    ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis), font: { color: ink, size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 50, r: 10, t: 10, b: 40 },
    legend: { orientation: "h", y: -0.2, yanchor: "top" }, hovermode: "closest", dragmode: false,
  };
  if (paper.matches) Object.assign(look, { width: 640, height: 420, autosize: false }); // pixels of a sheet of A4
  place.style.height = `${look.height}px`; // what is below stays below
  window.Plotly.react(place, data.map(atTarget).filter((trace) => trace.x.length), look,
    { responsive: true, displaylogo: false, displayModeBar: false });
}

// a trace with the marks of the chosen target alone
function atTarget(trace) {
  const of = (values) => values.filter((_, index) => stays({ target: trace.meta[index] }));
  const errors = { ...trace.error_y, array: of(trace.error_y.array) };
  return { ...trace, x: of(trace.x), y: of(trace.y), customdata: of(trace.customdata), error_y: errors };
}

async function plots() {
  const script = document.createElement("script");
  script.src = await blob("plotly");
  await new Promise((then) => { script.onload = then; document.head.append(script); });
  for (const place of document.querySelectorAll(".plot")) draw(place);
}

// colours: those that the reader prefers, and black on white on paper

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const paper = window.matchMedia("print");
function colours() {
  document.documentElement.classList.toggle("dark", dark.matches && !paper.matches);
  for (const place of document.querySelectorAll(".plot")) draw(place);
}
dark.addEventListener("change", colours);
paper.addEventListener("change", colours);

// links to rows

function linked() {
  const address = decodeURIComponent(window.location.hash.slice(1));
  for (const row of document.querySelectorAll("tr.linked")) row.classList.remove("linked");
  if (!address.startsWith("row-")) return;
  if (!document.getElementById(address) || document.getElementById(address).closest("[hidden]")) filters.reset();
  setTimeout(() => { // after a reset
    const row = document.getElementById(address);
    row?.classList.add("linked");
    row?.scrollIntoView({ block: "center" });
  });
}
window.addEventListener("hashchange", linked);
