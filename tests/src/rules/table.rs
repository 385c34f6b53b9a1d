//! The table of docs/causes.md: what each rule says of a program with its pathology, and of the twin.

use anyhow::Result;

use super::run::{Compared, Said, compare};
use super::scenes::{SCENES, Scene};

/// The table, and what is not as it must be.
#[derive(Clone, Debug)]
pub struct Report {
    /// The table as Markdown.
    pub table: String,
    /// Rules that do not fire on the program, or are not silent on the twin.
    pub wrong: Vec<String>,
}

/// Runs every scene. Calls `progress` with each row.
///
/// # Errors
/// A scene could not be run.
pub fn report(mut progress: impl FnMut(&str)) -> Result<Report> {
    let mut report = Report {
        table: "| finding | mode | program | reported | twin | reported |\n|---|---|---|---|---|---|\n"
            .to_owned(),
        wrong: Vec::new(),
    };
    for scene in &SCENES {
        for compared in compare(scene)? {
            let row = row(scene, &compared);
            progress(&row);
            if let Some(wrong) = wrong(scene, &compared) {
                progress(&wrong);
                report.wrong.push(wrong);
            }
            report.table.push_str(&row);
            report.table.push('\n');
        }
    }
    Ok(report)
}

fn row(scene: &Scene, compared: &Compared) -> String {
    let cells = [
        format!("`{}`", compared.rule),
        format!("`{}`", scene.mode),
        scene.workload.what.to_owned(),
        word(&compared.workload).to_owned(),
        scene.twin.what.to_owned(),
        word(&compared.twin).to_owned(),
    ];
    format!("| {} |", cells.join(" | "))
}

fn word(said: &Said) -> &'static str {
    match said {
        Said::Fires(..) => "yes",
        Said::Silent => "no",
        Said::Undecided(_) => "undecided",
    }
}

/// Describes what is not as it must be.
pub fn wrong(scene: &Scene, compared: &Compared) -> Option<String> {
    let Compared { rule, workload, twin } = compared;
    let name = scene.name;
    match (compared.fires(), compared.spares_the_twin()) {
        (true, true) => None,
        (false, _) => Some(format!(
            "{name}: {rule} does not fire on the program: {workload:?}"
        )),
        (true, false) => Some(format!("{name}: {rule} is not silent on the twin: {twin:?}")),
    }
}
