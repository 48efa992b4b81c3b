//! Disks that are made once in a machine, of which each scenario gets copies: making one takes seconds under emulation.

use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::disks::Recipe;

/// What has been made in this machine.
pub(crate) struct Originals {
    directory: PathBuf,
    made: Vec<Original>,
}

struct Original {
    recipe: Recipe,
    image: PathBuf,
    /// By the scenario that runs.
    is_taken: bool,
}

impl Originals {
    pub(crate) fn new(directory: PathBuf) -> Originals {
        Originals { directory, made: Vec::new() }
    }

    /// One that is not to be changed. No two of a scenario are the same one: their UUIDs differ.
    pub(crate) fn take(&mut self, recipe: &Recipe) -> Outcome<&Path> {
        let free = |original: &Original| !original.is_taken && original.recipe == *recipe;
        let number = match self.made.iter().position(free) {
            Some(number) => number,
            None => {
                let image = self.directory.join(format!("original{}", self.made.len()));
                recipe.make(&image)?;
                self.made.push(Original { recipe: recipe.clone(), image, is_taken: false });
                self.made.len() - 1
            }
        };
        let original = &mut self.made[number];
        original.is_taken = true;
        Ok(&original.image)
    }

    /// For the next scenario.
    pub(crate) fn give_back(&mut self) {
        self.made.iter_mut().for_each(|original| original.is_taken = false);
    }
}
