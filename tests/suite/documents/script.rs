//! The commands of a document, with the marks above their blocks.

/// Why a block may be left out. Its commands are still checked to exist (`deploy/check/commands.py`).
const REASONS: [&str; 7] = [
    "builds Brock",
    "needs a configuration file of a node",
    "needs an S3 store",
    "needs Docker",
    "needs Kubernetes",
    "needs several machines",
    "needs systemd",
];

/// What a document says to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Command(Command),
    /// Stop the node with this id. Written as `<!-- stop: ID -->`.
    Stop(String),
}

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Where it stands.
    pub(super) line: usize,
    /// As a shell takes it, over several lines if need be.
    pub(super) text: String,
    /// Lines that must appear in its output, in this order; `…` stands for any text.
    pub(super) output: Vec<String>,
    /// Its exit code. Written as `<!-- exit: N -->` above a block, for the last command of that block.
    pub(super) exit: i32,
    /// Whether to repeat it until it succeeds. Written as `<!-- eventually -->` above a block.
    pub(super) eventually: bool,
}

/// A block of commands: one marked `console`.
struct Block<'a> {
    /// The line of its fence, and how far that is indented.
    line: usize,
    indent: usize,
    /// The comments above it.
    marks: Vec<&'a str>,
    lines: Vec<&'a str>,
}

/// What to do for a document; and what is wrong with its marks.
pub(super) fn steps(page: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut marks: Vec<&str> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let text = line.trim();
        if let Some(mark) = text.strip_prefix("<!--").and_then(|text| text.strip_suffix("-->")) {
            match mark.trim().strip_prefix("stop: ") {
                Some(node) => steps.push(Step::Stop(node.to_owned())),
                None => marks.push(mark.trim()),
            }
        } else if text.starts_with("```") {
            let body =
                lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim().starts_with("```"));
            let block = Block {
                line: number + 1,
                indent: line.len() - line.trim_start().len(),
                marks: std::mem::take(&mut marks),
                lines: body.collect(),
            };
            if text == "```console" {
                steps.extend(commands(&block)?.into_iter().map(Step::Command));
            }
        } else if !text.is_empty() {
            marks.clear();
        }
    }
    Ok(steps)
}

fn commands(block: &Block<'_>) -> Result<Vec<Command>, String> {
    let (mut exit, mut eventually) = (0, false);
    for mark in &block.marks {
        match mark.split_once(": ") {
            Some(("not run", reason)) if REASONS.contains(&reason) => return Ok(Vec::new()),
            Some(("exit", code)) => {
                exit = code.parse().map_err(|_| format!("line {}: {mark}", block.line))?;
            }
            None if *mark == "eventually" => eventually = true,
            _ => return Err(format!("line {}: the mark `{mark}` is not known", block.line)),
        }
    }
    let mut commands: Vec<Command> = Vec::new();
    for (number, line) in (block.line + 1..).zip(&block.lines) {
        let line = line.get(block.indent..).unwrap_or_default();
        if let Some(text) = line.strip_prefix("$ ") {
            commands.push(Command {
                line: number,
                text: text.to_owned(),
                output: Vec::new(),
                exit: 0,
                eventually,
            });
            continue;
        }
        let Some(command) = commands.last_mut() else {
            return Err(format!("line {number}: neither a command nor its output"));
        };
        if is_unfinished(&command.text) {
            command.text.push('\n');
            command.text.push_str(line);
        } else {
            command.output.push(line.to_owned());
        }
    }
    if let Some(last) = commands.last_mut() {
        last.exit = exit;
    }
    Ok(commands)
}

/// Whether a shell would read another line.
fn is_unfinished(text: &str) -> bool {
    text.ends_with('\\') || (text.starts_with("for ") && !text.trim_end().ends_with("done"))
}

/// Whether all `expected` lines are in `output`, in this order.
pub(super) fn shows(output: &str, expected: &[String]) -> bool {
    let mut rest = output;
    expected.iter().flat_map(|line| line.split('…')).all(|part| match rest.split_once(part.trim_end()) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn commands_are_read_with_their_marks_and_output() {
    let page = "
```console
$ one \\
    --more
out…
$ for n in 1; do
    two
  done
```
<!-- stop: node-2 -->

<!-- exit: 5 -->
   ```console
   $ three
   $ four
   ```
<!-- not run: needs Docker -->
```console
$ five
```
```
six
```
";
    let command = |line, text: &str, exit| Command {
        line,
        text: text.to_owned(),
        output: Vec::new(),
        exit,
        eventually: false,
    };
    let with_output = Command { output: vec!["out…".to_owned()], ..command(3, "one \\\n    --more", 0) };
    let expected = [
        Step::Command(with_output),
        Step::Command(command(6, "for n in 1; do\n    two\n  done", 0)),
        Step::Stop("node-2".to_owned()),
        Step::Command(command(14, "three", 0)),
        Step::Command(command(15, "four", 5)),
    ];
    assert_eq!(steps(page).unwrap(), expected);
    assert!(steps("<!-- not run: too slow -->\n```console\n$ a\n```").unwrap_err().contains("too slow"));
    assert!(steps("```console\nno command\n```").is_err());
}

#[test]
fn expected_output_is_found_in_order() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(shows("begin\nage1xyz end\nlast\n", &lines("age1… end\nlast")));
    assert!(!shows("last\nage1xyz\n", &lines("age1…\nlast")));
    assert!(!shows("", &lines("x")));
}
