// Glue between the page and its two libraries, which lie in it compressed, as base64.
async function blob(name) {
  const letters = atob(document.getElementById(`library-${name}`).textContent);
  const packed = new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))]);
  const text = await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
  return URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
}
const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
document.documentElement.classList.toggle("dark", dark);

function filter() {
  const wanted = (name) => document.getElementById(`filter-${name}`).value;
  for (const article of document.querySelectorAll("article")) {
    article.hidden = ["dataset", "network"].some((name) => wanted(name) && wanted(name) !== article.dataset[name]);
  }
  for (const row of document.querySelectorAll("tr[data-target]")) {
    row.hidden = Boolean(wanted("target") && row.dataset.target && row.dataset.target !== wanted("target"));
  }
  window.dispatchEvent(new Event("resize")); // a plot that was hidden takes its width now
}
document.querySelector(".filters").addEventListener("change", filter);

async function sortable() {
  const { ITable } = await import(await blob("tables"));
  const plain = { paging: false, info: false, searching: false, order: [], autoWidth: false };
  for (const table of document.querySelectorAll("table.main, table.more")) new ITable(table, plain);
  for (const table of document.querySelectorAll("table.records")) {
    new ITable(table, { pageLength: 10, order: [], autoWidth: false });
  }
}

function plots() {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink");
  const line = getComputedStyle(document.documentElement).getPropertyValue("--line");
  const drawn = JSON.parse(document.getElementById("plots").textContent);
  for (const place of document.querySelectorAll(".plot")) {
    const { data, layout } = drawn[place.dataset.plot];
    const axis = (own) => ({ ...own, gridcolor: line, zeroline: false, automargin: true });
    const look = {
      ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis), font: { color: ink, size: 12 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 50, r: 10, t: 10, b: 40 },
      legend: { orientation: "h", y: -0.2, yanchor: "top" }, hovermode: "closest", dragmode: false,
    };
    window.Plotly.newPlot(place, data, look, { responsive: true, displaylogo: false, displayModeBar: false });
  }
}

const script = document.createElement("script");
script.src = await blob("plotly");
script.onload = plots;
document.head.append(script);
await sortable();
document.body.dataset.ready = "tables";
