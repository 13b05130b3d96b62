// What the pages of the site need beside the theme; loaded before its own script.

// Browsers start no worker in a page that was opened as a file, so the search runs in a hidden frame there.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      // messages arrive later, as those of a worker do
      inside.postMessage = (data) =>
        setTimeout(() => this.dispatchEvent(new MessageEvent("message", { data })));
      const script = inside.document.createElement("script");
      script.src = url;
      script.onload = () => {
        this.inside = inside;
        this.waiting.splice(0).forEach((data) => this.postMessage(data));
      };
      script.onerror = () => this.dispatchEvent(new Event("error"));
      inside.document.body.append(script);
    }
    set onmessage(listener) {
      this.addEventListener("message", listener);
    }
    postMessage(data) {
      if (this.inside) {
        const { MessageEvent } = this.inside;
        setTimeout(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
      } else {
        this.waiting.push(data);
      }
    }
    terminate() {
      this.frame.remove();
    }
  };
}

// A wide table scrolls inside its own frame, which the keyboard has to reach.
new MutationObserver(() => {
  for (const frame of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    frame.tabIndex = 0;
  }
}).observe(document.documentElement, { childList: true, subtree: true });
