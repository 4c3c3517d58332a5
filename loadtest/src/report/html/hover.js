// Under the pointer, the legend says what each line is there.
for (const figure of document.querySelectorAll(".chart")) {
  const points = JSON.parse(figure.dataset.points);
  const plot = figure.querySelector(".plot");
  const cursor = figure.querySelector(".cursor");
  const figures = [...figure.querySelectorAll(".legend .figures")];
  const usual = figures.map((each) => each.textContent);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * plot.viewBox.baseVal.width;
    let nearest = 0;
    points.x.forEach((each, index) => {
      if (Math.abs(each - x) < Math.abs(points.x[nearest] - x)) nearest = index;
    });
    cursor.setAttribute("x1", points.x[nearest]);
    cursor.setAttribute("x2", points.x[nearest]);
    cursor.style.visibility = "visible";
    figures.forEach((each, line) => {
      each.textContent = `${points.lines[line][nearest] ?? "–"} at ${points.at[nearest]}`;
    });
  });
  plot.addEventListener("pointerleave", () => {
    cursor.style.visibility = "hidden";
    figures.forEach((each, line) => { each.textContent = usual[line]; });
  });
}
