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
  for (const note of document.querySelectorAll(".whole")) note.hidden = !wanted("target");
  for (const place of document.querySelectorAll(".plot")) draw(place);
  const rows = document.querySelectorAll("article:not([hidden]) table.main tbody tr[id]").length;
  document.getElementById("filtered").textContent = Object.values(filters.elements).some((one) => one.value)
    ? `${rows} rows of the main tables are left. Tables, records and the figure with hover follow the filter; `
      + "a picture shows all targets of its network."
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
