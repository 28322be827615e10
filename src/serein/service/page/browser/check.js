// A script for every browser: says why the page cannot start. Modules need a web server and a recent browser.

(function () {
  function show(title, detail) {
    var box = document.getElementById("problem"), head = document.createElement("strong"), text = document.createElement("p");
    head.textContent = title;
    text.textContent = detail;
    box.appendChild(head);
    box.appendChild(text);
  }
  if (location.protocol === "file:")
    show("This page needs a web server", "Run python -m http.server in its folder, and open http://localhost:8000.");
  else if (!("noModule" in document.createElement("script")))
    show("This browser is too old for this page", "Open it in Chrome or Edge 91, Firefox 113, Safari 16.4, or a later one.");
})();
