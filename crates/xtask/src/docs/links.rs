//! Does every link of a site lead somewhere, and is nothing loaded from another one?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

/// Links that lead nowhere, and things that come from elsewhere.
///
/// # Errors
/// When the site cannot be read.
pub(super) fn problems(site: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    let mut files = BTreeSet::new();
    let mut folders = vec![site.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.strip_prefix(site).unwrap_or(&path).to_owned();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // All pages once more in one, and a page for addresses that do not exist, whose links are of the server's root.
            let is_page = name.extension().is_some_and(|ending| ending == "html");
            if is_page && !["print.html", "404.html", "toc.html"].iter().any(|other| name == Path::new(other)) {
                pages.insert(name.clone(), fs::read_to_string(&path)?);
            }
            files.insert(name);
        }
    }
    Ok(judge(&pages, &files))
}

fn judge(pages: &BTreeMap<PathBuf, String>, files: &BTreeSet<PathBuf>) -> Vec<String> {
    let anchors: BTreeMap<&PathBuf, BTreeSet<&str>> =
        pages.iter().map(|(name, text)| (name, attributes(text, "id").collect())).collect();
    let mut problems = Vec::new();
    for (name, text) in pages {
        for address in attributes(text, "src").filter(|address| is_elsewhere(address)) {
            problems.push(format!("{}: loads {address}", name.display()));
        }
        for (tag, address) in attributes(text, "href").map(|address| (tag_of(text, address), address)) {
            if is_elsewhere(address) {
                if tag == "link" {
                    problems.push(format!("{}: loads {address}", name.display()));
                }
                continue;
            }
            let (path, anchor) = address.split_once('#').unwrap_or((address, ""));
            let path = path.split('?').next().unwrap_or(path);
            let target = if path.is_empty() { name.clone() } else { resolved(name, path) };
            if !files.contains(&target) {
                problems.push(format!("{}: {address} is not there", name.display()));
            } else if !anchor.is_empty() && anchors.get(&target).is_some_and(|anchors| !anchors.contains(anchor)) {
                problems.push(format!("{}: {address} has no such heading", name.display()));
            }
        }
    }
    problems
}

/// The values of an attribute, in their order.
fn attributes<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!(" {name}=\"");
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = rest.find(&start)? + start.len();
        let end = rest[at..].find('"')? + at;
        let value = &rest[at..end];
        rest = &rest[end..];
        Some(value)
    })
}

/// The element that an attribute's value, a part of `text`, belongs to.
fn tag_of<'a>(text: &'a str, value: &'a str) -> &'a str {
    let at = value.as_ptr() as usize - text.as_ptr() as usize;
    let open = text[..at].rfind('<').map_or(0, |open| open + 1);
    text[open..at].split([' ', '\n']).next().unwrap_or_default()
}

fn is_elsewhere(address: &str) -> bool {
    ["http:", "https:", "mailto:", "//"].iter().any(|start| address.starts_with(start))
}

fn resolved(page: &Path, address: &str) -> PathBuf {
    let mut path = page.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(address).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Vec<String> {
        let pages = BTreeMap::from([
            (PathBuf::from("a/page.html"), text.to_owned()),
            (PathBuf::from("b.html"), "<h2 id=\"here\">x</h2>".to_owned()),
        ]);
        let files = ["a/page.html", "b.html", "a/x.css"].map(PathBuf::from).into();
        judge(&pages, &files)
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let text = "<link href=\"x.css\"><a href=\"../b.html#here\">b</a><a href=\"#top\" id=\"top\">top</a>\
                    <a class=\"x\" href=\"https://example.com\">e</a>";
        assert_eq!(judged(text), Vec::<String>::new());
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for text in ["<a href=\"c.html\">c</a>", "<a href=\"../b.html#gone\">b</a>", "<a href=\"#gone\">x</a>"] {
            assert_eq!(judged(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn what_comes_from_elsewhere_is_found() {
        for text in ["<script src=\"https://example.com/x.js\">", "<link rel=\"x\" href=\"//example.com/x.css\">"] {
            assert_eq!(judged(text).len(), 1, "{text}");
        }
    }
}
